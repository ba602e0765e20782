//! Data that change their schema with a release, and what becomes of them when it fails.

use std::path::{Path, PathBuf};

use e2e::packages::put;
use e2e::{Site, SiteOptions};
use protocol::Step;

/// A package whose program is well only with data of its own schema, and which can make them of the one before.
pub(crate) fn package(out: &Path, schema: u32, is_good: bool) -> PathBuf {
    let dir = out.join(format!("ledger-{schema}"));
    let program = format!(
        "#!/usr/bin/env python3
import os, pathlib, time
data = pathlib.Path(os.environ['DROVER_DATA'])
ledger = data / 'ledger.txt'
if {schema} == 1 and not ledger.exists():
    ledger.write_text('schema 1\\n7\\n')
lines = ledger.read_text().split('\\n')
assert lines[0] == 'schema {schema}', lines
(data / 'runs').write_text('{schema}.0.0')
assert {good}, 'the ledger does not add up'
time.sleep(100000)
",
        good = if is_good { "True" } else { "False" },
    );
    let migrate = "#!/usr/bin/env python3
import os, pathlib
ledger = pathlib.Path(os.environ['DROVER_STATE']) / 'ledger.txt'
head, *numbers = ledger.read_text().split('\\n')
assert head == 'schema ' + os.environ['DROVER_SCHEMA_FROM']
new = ['schema ' + os.environ['DROVER_SCHEMA_TO']] + [n and str(10 * int(n)) for n in numbers]
ledger.write_text('\\n'.join(new))
";
    put(&dir.join("payload/ledger.py"), program.as_bytes(), 0o755);
    put(&dir.join("payload/migrate"), migrate.as_bytes(), 0o755);
    let state = match schema {
        1 => "to = 1".to_owned(),
        _ => format!(
            "from = [{}]\nto = {schema}\ntransform = [\"migrate\"]",
            schema - 1
        ),
    };
    let text = format!(
        "format = 1\ncomponent = \"ledger\"\nversion = \"{schema}.0.0\"\n\n[run]\nhow = \"python\"\n\
         program = \"ledger.py\"\nstop_seconds = 2\n\n[health]\nalive_seconds = 1\nprobation_seconds = 1\n\n[state]\n{state}\n"
    );
    put(&dir.join("update.toml"), text.as_bytes(), 0o644);
    dir
}

#[tokio::test]
async fn data_are_transformed_with_a_release_and_put_back_when_it_fails() {
    let site = Site::running(SiteOptions::default()).await;
    let work = tempfile::tempdir().unwrap();
    let mut follow = site.follow();
    let agent = site.device("pump").await;
    let ledger = agent.dir.join("data/ledger/ledger.txt");
    let read = || std::fs::read_to_string(&ledger).unwrap();
    for (schema, figures) in [(1, "schema 1\n7\n"), (2, "schema 2\n70\n")] {
        let output = site.publish(&package(work.path(), schema, true), &[]).await;
        assert_eq!(output.code, 0, "{}", output.stderr);
        follow.committed("pump", &format!("{schema}.0.0")).await;
        assert_eq!(read(), figures);
    }
    let output = site.publish(&package(work.path(), 3, false), &[]).await;
    assert_eq!(output.code, 0, "{}", output.stderr);
    let event = follow.outcome("pump", "3.0.0").await;
    assert_eq!(event.step, Step::RolledBack);
    let why = event.reason.unwrap();
    assert!(why.contains("the ledger does not add up"), "{why}");
    assert_eq!(read(), "schema 2\n70\n");
}
