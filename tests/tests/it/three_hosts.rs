//! `docs/three-hosts.md`, typed word for word into three machines made of network namespaces.

use std::path::Path;

use e2e::process::{bin_dir, run};

#[tokio::test]
async fn the_page_about_three_machines_is_right_word_for_word() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/three-hosts");
    let temporary = tempfile::tempdir().unwrap();
    let (bins, temporary_text) = (
        bin_dir().display().to_string(),
        temporary.path().display().to_string(),
    );
    let env = [
        ("DROVER_BIN_DIR", bins.as_str()),
        ("TMPDIR", temporary_text.as_str()),
    ];
    let output = run(&script, [""; 0], "", &env).await;
    if output.code == 77 {
        e2e::skip(output.stderr.trim());
        return;
    }
    let output = output.ok();
    assert!(output.stdout.contains("the page is right"), "{}", output.stdout);
    let left: Vec<_> = std::fs::read_dir(temporary.path()).unwrap().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}
