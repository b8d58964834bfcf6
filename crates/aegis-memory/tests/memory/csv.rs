//! MiniMalloc's text format: what is read, what is written, and what is said of bad input.

use aegis_memory::csv::{CsvError, Instance};
use aegis_memory::{BufferId, MemoryError};
use aegis_types::Bytes;

use crate::oracle::placement;

#[test]
fn it_reads_every_column() {
    let text = "buffer_id, start ,end,size,alignment,offset,hint,gaps,note\r\n\
                in,0,9,24,8,16,-1,2-4 6-8@8:16,kept\r\n\
                out,3,3,7,1,,0,,too\n";
    let instance = Instance::read(text).expect("a legal instance");
    let problem = instance.problem(Bytes::new(64)).expect("a legal problem");
    let [first, second] = problem.buffers() else { panic!("two buffers") };
    assert_eq!((first.lower, first.upper, first.size, first.align), (0, 10, Bytes::new(24), Bytes::new(8)));
    assert_eq!((first.fixed, second.fixed), (Some(Bytes::new(16)), None));
    assert_eq!((second.lower, second.upper), (3, 4));
    let gaps: Vec<_> = problem.gaps().iter().map(|gap| (gap.lower, gap.upper, gap.window)).collect();
    assert_eq!(gaps, [(2, 4, None), (6, 8, Some((Bytes::new(8), Bytes::new(16))))]);
    assert_eq!((instance.name(BufferId(1)), instance.name(BufferId(2))), (Some("out"), None));
    let written = instance.write(&placement(&[16, 0])).expect("small offsets");
    assert_eq!(
        written,
        "buffer_id,start,end,size,alignment,offset,hint,gaps,note\n\
         in,0,9,24,8,16,-1,2-4 6-8@8:16,kept\nout,3,3,7,1,0,0,,too\n"
    );
}

#[test]
fn a_solution_is_an_instance_with_offsets() {
    let instance = Instance::read("id,lower,upper,size\na,0,3,4\nb,2,9,4\n").expect("a legal instance");
    let text = instance.write(&placement(&[0, 4])).expect("small offsets");
    assert_eq!(text, "id,lower,upper,size,offset\na,0,3,4,0\nb,2,9,4,4\n");
    let again = Instance::read(&text).expect("a legal instance").problem(Bytes::new(8)).expect("fits");
    assert_eq!(again.buffers()[1].fixed, Some(Bytes::new(4)));
}

#[test]
fn an_offset_that_could_not_be_read_again_is_not_written() {
    let instance = Instance::read("id,lower,upper,size\na,0,3,4\nb,2,9,4\n").expect("a legal instance");
    let most = i64::MAX.unsigned_abs();
    let text = instance.write(&placement(&[0, most])).expect("the largest offset that can be read");
    assert!(Instance::read(&text).is_ok(), "{text}");
    let error = instance.write(&placement(&[0, most + 1])).expect_err("2^63 is too far");
    assert_eq!(error, CsvError::Offset { buffer: "b".into(), offset: Bytes::new(most + 1) });
    assert!(error.to_string().contains("`b`") && error.to_string().contains("2^63 - 1"), "{error}");
}

#[test]
fn bad_input_names_line_column_value_and_what_is_legal() {
    let cases = [
        ("id,lower,upper,size\na,0,3,-4\n", "line 2, column size: \"-4\"; legal: a whole number"),
        ("id,lower,upper,size\na,0,3,9223372036854775808\n", "line 2, column size: \"9223372036854775808\""),
        (
            "id,lower,upper,size\n\na,3,3,4\n",
            "line 3, column upper: \"3\"; legal: more than the lower end, which is 3",
        ),
        (
            "id,lower,upper,size\na,0,3,4\na,1,2,4\n",
            "line 3, column id: \"a\"; legal: a name that line 2 does not have",
        ),
        ("id,lower,upper,size,gaps\na,2,5,4,4-9\n", "line 2, column gaps: \"4-9\"; legal: gaps"),
        ("id,lower,upper,size,gaps\na,2,5,4,3-4@1:9\n", "legal: windows that are not empty, within [0, 4)"),
        ("id,lower,upper,size,gaps\na,2,9,4,3-5 4-6\n", "legal: gaps that do not overlap"),
        ("id,lower,upper,size,gaps\na,2,9,4,x\n", "legal: l-u or l-u@first:behind"),
        ("id,lower,upper,size,alignment\na,0,3,4,3\n", "column alignment: \"3\"; legal: a power of two"),
        ("id,lower,upper,size,alignment,offset\na,0,3,4,4,2\n", "column offset: \"2\"; legal: a multiple"),
        ("id,lower,upper,size\na,0,3\n", "line 2: 3 cells; legal: 4"),
        ("id,lower,size\n", "no column upper"),
        ("\n\n0,0,3,4\n", "line 3: there is no column id in \"0,0,3,4\"; legal: id, buffer_id or buffer"),
        (
            "id;lower;upper;size\na;0;3;4\n",
            "in \"id;lower;upper;size\"; legal: id, buffer_id or buffer, and commas",
        ),
        ("id,lower,upper,size\na,0,3,1e6\n", "line 2, column size: \"1e6\"; legal: a whole number"),
        ("id,lower,upper,size\n\"a,b\",0,3,4\n", "line 2: 5 cells; legal: 4"),
        ("id,lower,upper,end,size\n", "column end says what an earlier column says"),
        ("\n \n", "the text is empty"),
    ];
    for (text, expected) in cases {
        let said = Instance::read(text).expect_err(text).to_string();
        assert!(said.contains(expected), "{text:?} gives {said:?}, not {expected:?}");
    }
    let sum = "id,lower,upper,size\na,0,1,9223372036854775807\nb,0,1,9223372036854775807\nc,0,1,2\n";
    let problem = Instance::read(sum).expect("each is legal").problem(Bytes::new(8));
    assert!(matches!(problem, Err(MemoryError::Overflow { .. })), "{problem:?}");
    assert_eq!(Instance::read("").expect_err("no head"), CsvError::Empty);
}

#[test]
fn what_other_programs_put_around_cells_is_no_part_of_them() {
    let plain = Instance::read("id,lower,upper,size\na,0,3,4\n").expect("a legal instance");
    for text in [
        "\u{feff}id,lower,upper,size\r\na,0,3,4\r\n",
        "\"id\",\"lower\",\"upper\",\"size\"\n\"a\",0,3,\"4\"\n",
        "\n id , lower , upper , size\n\n\ta, 0, 3, \" 4 \"\n\n",
    ] {
        assert_eq!(Instance::read(text).as_ref(), Ok(&plain), "{text:?}");
    }
}

#[test]
fn a_message_shows_the_beginning_of_a_long_cell() {
    let text = format!("id,lower,upper,size\na,0,3,{}\n", "9".repeat(1_000_000));
    let said = Instance::read(&text).expect_err("2^63 has 19 digits").to_string();
    assert!(said.contains("999...\"; legal: a whole number") && said.len() < 300, "{} bytes", said.len());
}

#[test]
fn a_million_buffers_are_refused() {
    let mut text = String::from("id,lower,upper,size\n");
    (0..1_000_000).for_each(|id| text.push_str(&format!("{id},0,1,1\n")));
    let error = Instance::read(&text).expect_err("more than a problem may have");
    assert!(
        matches!(error, CsvError::Problem(MemoryError::TooManyBuffers { found: 1_000_000, .. })),
        "{error}"
    );
}
