//! MiniMalloc's place beside ours, taken by a small program that understands the same words: a greedy placer in the language
//! of `awk`. What is tried is our side: how it is called, that its answer is verified, and that failures are said.
#![cfg(unix)]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use aegis_benches::minimalloc::{MiniMalloc, MiniMallocError};
use aegis_types::Bytes;

/// Reads the words, then places row by row at the lowest offset that is free. Where `OVERLAP` is 0 it sees no other row.
const PLACER: &str = r#"#!/bin/sh
for word in "$@"; do
    case "$word" in
        --input=*) input="${word#--input=}" ;;
        --output=*) output="${word#--output=}" ;;
        --capacity=*) capacity="${word#--capacity=}" ;;
        *) exit 64 ;;
    esac
done
awk -F, -v capacity="$capacity" '
NR == 1 { print $0 ",offset"; next }
{
    lower[NR] = $2; upper[NR] = $3; size[NR] = $4; at = 0
    for (moved = 1; moved;) {
        moved = 0
        for (row = 2; row < NR; row++) {
            apart = upper[row] <= lower[NR] || upper[NR] <= lower[row]
            if (!apart && OVERLAP && at < place[row] + size[row] && place[row] < at + size[NR]) {
                at = place[row] + size[row]; moved = 1
            }
        }
    }
    if (at + size[NR] > capacity) exit 1
    place[NR] = at
    print $0 "," at
}' "$input" > "$output"
"#;

const INSTANCE: &str = "id,lower,upper,size\na,0,3,4\nb,3,9,4\nc,0,9,4\nd,9,21,8\n";

fn program(folder: &Path, name: &str, overlap: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, PLACER.replace("OVERLAP", overlap)).expect("a writable folder");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("our own file");
    path
}

// One test, because a program can't be started while another thread's child still has it open for writing.
#[test]
fn its_answer_is_verified_and_what_goes_wrong_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let input = folder.path().join("instance.csv");
    std::fs::write(&input, INSTANCE).expect("a writable folder");
    let solve = |program: PathBuf, capacity| MiniMalloc::new(program).solve(&input, Bytes::new(capacity));

    let greedy = program(folder.path(), "greedy", "1");
    let solved = solve(greedy.clone(), 12).expect("it fits");
    assert_eq!(solved.peak, Bytes::new(8));
    assert!(solved.cpu_ms >= 0.0);

    let tight = solve(greedy, 7).expect_err("the instance takes 8");
    assert!(matches!(tight, MiniMallocError::Gave { .. }), "{tight}");

    let careless = program(folder.path(), "careless", "0");
    let wrong = solve(careless, 12).expect_err("everything lies at 0");
    assert!(matches!(wrong, MiniMallocError::Fault(_)), "{wrong}");

    let nothing = folder.path().join("nothing");
    let absent = solve(nothing.clone(), 12).expect_err("no such program");
    assert!(absent.to_string().contains(&nothing.display().to_string()), "{absent}");
}
