//! The generated page of state machines is the one that is kept.

use std::path::Path;

#[test]
fn the_page_of_state_machines_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/state-machines.md");
    let text = aegis_context::state_machines_markdown();
    if std::env::var_os("AEGIS_REGENERATE").is_some() {
        std::fs::write(&path, &text).expect("the page can be written");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(kept, text, "run: AEGIS_REGENERATE=1 cargo test -p aegis-context");
}
