//! Texts of lines and fields, changed a little.

use super::generate::Rng;

/// The longest text that is made by chance.
const LENGTH_MAX: usize = 1 << 14;

const ODD: [&str; 16] = [
    "", " ", "\t", "-1", "+1", "1e3", "0x10", "1.5", "\u{0}", "é", "\"3\"", "\u{feff}", ",", "\n", "\r",
    "1-2@0:1",
];

/// Changes a text in one to four places.
pub fn text(rng: &mut Rng, text: &str, others: &[String]) -> String {
    let mut lines: Vec<String> = text.split('\n').map(str::to_owned).collect();
    for _ in 0..rng.range(1, 4) {
        line(rng, &mut lines, others);
    }
    let mut text = lines.join("\n");
    let length = (0..=LENGTH_MAX.min(text.len())).rev().find(|&end| text.is_char_boundary(end));
    text.truncate(length.unwrap_or(0));
    text
}

fn line(rng: &mut Rng, lines: &mut Vec<String>, others: &[String]) {
    let at = rng.below(lines.len());
    match rng.below(10) {
        0 if lines.len() > 1 => {
            lines.remove(at);
        }
        1 => lines.insert(at, lines[at].clone()),
        2 => {
            let other: Vec<&str> = rng.pick(others).split('\n').collect();
            lines.insert(at, (*rng.pick(&other)).to_owned());
        }
        3 => lines[at] = characters(rng, &lines[at]),
        4 => {
            let other = rng.below(lines.len());
            lines.swap(at, other);
        }
        5 => rows(rng, lines, at),
        _ => lines[at] = fields(rng, &lines[at]),
    }
}

/// The same row again and again, with its first field counting up, so that there are many legal rows.
fn rows(rng: &mut Rng, lines: &mut Vec<String>, at: usize) {
    let Some((first, rest)) = lines[at].split_once(',') else { return };
    let Ok(first) = first.trim().parse::<u64>() else { return };
    let copies = if rng.one_in(50) { 400 } else { rng.range(1, 8) };
    let more: Vec<String> =
        (1..=copies).map(|count| format!("{},{rest}", first.wrapping_add(100 + count))).collect();
    lines.splice(at..at, more);
}

fn fields(rng: &mut Rng, line: &str) -> String {
    let mut fields: Vec<String> = line.split(',').map(str::to_owned).collect();
    let at = rng.below(fields.len());
    let number = fields[at].trim().parse::<u64>();
    match (rng.below(8), number) {
        (0, _) => fields[at] = (*rng.pick(&ODD)).to_owned(),
        (1, _) if fields.len() > 1 => {
            fields.remove(at);
        }
        (2, _) => fields.insert(at, fields[at].clone()),
        (3, _) => {
            let other = rng.below(fields.len());
            fields.swap(at, other);
        }
        (4, Ok(number)) => fields[at] = number.wrapping_add(1).to_string(),
        (5, Ok(number)) => fields[at] = number.wrapping_sub(1).to_string(),
        (6, Ok(_)) => fields[at] = rng.range(0, 40).to_string(),
        _ => fields[at] = rng.number().to_string(),
    }
    fields.join(",")
}

fn characters(rng: &mut Rng, line: &str) -> String {
    let mut characters: Vec<char> = line.chars().collect();
    let at = rng.below(characters.len() + 1);
    if rng.one_in(2) && at < characters.len() {
        characters.remove(at);
    } else {
        characters.splice(at..at, rng.pick(&ODD).chars());
    }
    characters.into_iter().collect()
}
