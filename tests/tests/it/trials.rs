//! A few inputs of each row of `scripts/eval-security`: right ones are accepted, wrong ones refused by the check that
//! the row names.

use e2e::trials::{Plan, run};

/// As many as there are kinds of input in the row with the most.
const TRIALS: usize = 8;

#[tokio::test]
async fn every_row_of_the_evaluation_comes_out_as_it_must() {
    let plan = Plan {
        trials: TRIALS,
        seed: 7,
    };
    let rows = run(plan, |_| {}).await;
    for row in &rows {
        assert!(row.holds(), "{row:#?}");
        assert_eq!(row.distinct, row.trials, "{row:#?}");
    }
    assert!(rows.len() > 40, "{} rows", rows.len());
}
