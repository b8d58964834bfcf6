//! The library's messages, in one line and for people: without the places in its own source, and with what is meant
//! where it says what it did.

/// What the library says before the shapes of an output that came out otherwise than it was bound.
const BOUND: (&str, &str) = ("provided for output '", "' of node ");
/// What it says between the two shapes.
const SHAPES: (&str, &str) = (" has shape ", " but the computed output shape for this run is ");

/// A message in one line, without control characters and without places in the library's source.
///
/// The library ends some messages with line breaks and repeats names from the file as they are.
pub(crate) fn plain(message: &str) -> String {
    let words = message.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let line = words.collect::<Vec<_>>().join(" ");
    without_codes(&without_places(&line))
}

/// What a run says that failed: an output of another shape is told as such, and everything else as it is.
pub(crate) fn of_run(message: &str) -> String {
    other_shape(message).unwrap_or_else(|| message.to_owned())
}

fn other_shape(message: &str) -> Option<String> {
    let (_, after) = message.split_once(BOUND.0)?;
    let (output, after) = after.split_once(BOUND.1)?;
    let (_, shapes) = after.split_once(SHAPES.0)?;
    let (bound, after) = shapes.split_once(SHAPES.1)?;
    let (found, _) = after.split_once('}')?;
    Some(format!(
        "output `{output}` has shape {found}}} in this run and had {bound} before: it depends on the data, or the file states \
         it wrongly; legal is an output of one shape"
    ))
}

/// `FILE:LINE FUNCTION` before a message is left out. The function is one word behind a bare file name, and a whole
/// signature behind a path.
fn without_places(line: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut rest = line;
    while let Some((word, after)) = next_word(rest) {
        rest = after;
        if !is_place(word) {
            kept.push(word);
            continue;
        }
        let end = if word.contains('/') {
            signature_end(rest)
        } else {
            next_word(rest).map(|(_, tail)| rest.len() - tail.len())
        };
        rest = end.map_or(rest, |end| rest[end..].trim_start());
    }
    kept.join(" ")
}

fn next_word(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start();
    (!text.is_empty()).then(|| text.split_once(' ').unwrap_or((text, "")))
}

/// A file of the library's languages and a line in it.
fn is_place(word: &str) -> bool {
    let Some((file, line)) = word.rsplit_once(':') else { return false };
    let known = [".cc", ".h", ".cpp", ".cu", ".cuh", ".hpp"].iter().any(|suffix| file.ends_with(suffix));
    known && !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_digit())
}

/// Where the signature of a qualified function ends: behind the parenthesis that closes its parameters, and behind what
/// a compiler adds of templates and qualifiers.
fn signature_end(text: &str) -> Option<usize> {
    let open = text.find('(').filter(|&open| text[..open].contains("::"))?;
    let mut depth = 0usize;
    let close = text[open..].char_indices().find_map(|(at, c)| {
        depth = match c {
            '(' => depth + 1,
            ')' => depth - 1,
            _ => depth,
        };
        (depth == 0).then_some(open + at + 1)
    })?;
    let behind = |end: usize, word: &str| if text[end..].starts_with(word) { end + word.len() } else { end };
    let end = behind(close, " const");
    if !text[end..].starts_with(" [with ") {
        return Some(end);
    }
    Some(text[end..].find(']').map_or(end, |at| end + at + 1))
}

/// The library's name and the number and name of its code, which stand before some messages.
fn without_codes(line: &str) -> String {
    const MARK: &str = "[ONNXRuntimeError] : ";
    let Some((before, after)) = line.split_once(MARK) else { return line.to_owned() };
    let mut parts = after.splitn(3, " : ");
    let coded = parts.next().is_some_and(|code| code.bytes().all(|byte| byte.is_ascii_digit()));
    match (parts.next(), parts.next()) {
        (Some(_), Some(message)) if coded => format!("{before}{}", without_codes(message)),
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_codes_of_the_library_are_left_out() {
        for (message, said) in [
            (
                "/src/core/graph/model.cc:256 lib::Model::Model(onnx::Proto&&, const Text&, const Options&) \
                 Unsupported model IR version: 14, max supported IR version: 13",
                "Unsupported model IR version: 14, max supported IR version: 13",
            ),
            (
                "Status Message: /src/core/op_kernel.cc:87 virtual Value* lib::Context::Output(int, const Shape&) \
                 [ONNXRuntimeError] : 2 : INVALID_ARGUMENT : The output is odd (really)",
                "Status Message: The output is odd (really)",
            ),
            (
                "/src/a.h:5 static lib::Status lib::Run(f (*)(int), T) const [with T = float; U = int] It failed",
                "It failed",
            ),
            (
                "Name:'dv' Status Message: element_wise_ops.cc:692 Compute Integer division by zero",
                "Name:'dv' Status Message: Integer division by zero",
            ),
            ("[ONNXRuntimeError] : 1 : FAIL : Load failed:\n axis 3:4\u{1b}[2J", "Load failed: axis 3:4 [2J"),
            ("Error in node.h: 12 axes", "Error in node.h: 12 axes"),
            ("cut at /src/a.cc:12 lib::f(int", "cut at lib::f(int"),
            ("", ""),
        ] {
            assert_eq!(plain(message), said);
        }
    }

    #[test]
    fn an_output_of_another_shape_is_told_as_such() {
        let message = "Non-zero status. The output OrtValue provided for output 'y' of node 'nz' (NonZero) has shape {2,0} \
                       but the computed output shape for this run is {2,16}. When calling Run() with pre-allocated";
        let said = of_run(message);
        assert!(said.starts_with("output `y` has shape {2,16} in this run and had {2,0} before"), "{said}");
        assert_eq!(of_run("Integer division by zero"), "Integer division by zero");
    }
}
