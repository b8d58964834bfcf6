//! `aegis plan` for buffers in MiniMalloc's format.

use crate::bench::Folder;

const BUFFERS: &str = "id,lower,upper,size\na,0,3,4\nb,3,9,4\nc,0,9,4\nd,9,21,8\n";

#[test]
fn buffers_are_placed_and_written_with_their_offsets() {
    let folder = Folder::new();
    folder.write("b.csv", BUFFERS);
    folder.aegis(&["plan", "b.csv", "--out", "placed.csv"]).says(0, &["optimal", "peak         8 bytes"]);
    let written = std::fs::read_to_string(folder.path("placed.csv")).expect("it is written");
    assert_eq!(written.lines().next(), Some("id,lower,upper,size,offset"));
    assert_eq!(written.lines().count(), 5);
    let answer =
        folder.aegis(&["plan", "b.csv", "--capacity", "12", "--nodes", "99", "--format", "json"]).json();
    assert!(answer["peak_bytes"].as_u64().is_some_and(|peak| (8..=12).contains(&peak)), "{answer}");
}

#[test]
fn what_does_not_fit_is_refused_and_bad_input_is_named() {
    let folder = Folder::new();
    folder.write("b.csv", BUFFERS).write("bad.csv", "id,lower,upper,size\na,0,3,-4\n");
    folder.aegis(&["plan", "b.csv", "--capacity", "7"]).says(3, &["infeasible", "lower bound  8"]);
    folder.aegis(&["plan", "bad.csv"]).refuses(2, &["bad.csv: line 2, column size", "-4"]);
    folder.aegis(&["plan", "b.csv", "--out", "b.csv"]).refuses(2, &["would replace"]);
    folder.aegis(&["plan", "b.csv", "--seconds=-1"]).refuses(2, &["legal"]);
    folder.aegis(&["plan", "absent.csv"]).refuses(2, &["absent.csv"]);
    folder.aegis(&["plan", "fleet.toml", "--nodes", "5"]).refuses(2, &["--nodes", ".csv"]);
}
