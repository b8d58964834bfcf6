use super::*;

fn block(from: u64, to: u64, offset: u64, len: u64) -> Block {
    let (label, words) = ("a".to_owned(), "<a> & \"b\"\u{7}".to_owned());
    let (offset, len) = (Bytes::new(offset), Bytes::new(len));
    Block { from, to, offset, len, colour: 0, fill: Fill::Solid, label, words }
}

fn drawing(blocks: Vec<Block>, names: usize) -> Drawing {
    Drawing {
        title: "<script>".to_owned(),
        subtitle: "a & b".to_owned(),
        across: "time".to_owned(),
        span: (10, 110),
        peak: Bytes::new(1 << 20),
        bound: Bytes::new(1 << 19),
        bands: vec![Band { from: 10, to: 60, name: "'lane'".to_owned() }],
        blocks,
        legend: (0..names).map(|number| format!("model <{number}>")).collect(),
    }
}

/// Value of an attribute in tenths.
fn attribute(tag: &str, name: &str) -> u64 {
    let from = tag.find(&format!(" {name}=\"")).expect("the attribute is there") + name.len() + 3;
    let text = &tag[from..from + tag[from..].find('"').expect("it ends")];
    let (whole, tenths) = text.split_once('.').expect("one decimal");
    whole.parse::<u64>().expect("a number") * 10 + tenths.parse::<u64>().expect("a digit")
}

/// Left, right, upper and lower edge of every block.
fn edges(svg: &str) -> Vec<[u64; 4]> {
    let blocks = svg.lines().filter(|line| line.starts_with("<rect") && line.contains("<title>"));
    blocks
        .map(|tag| {
            let [x, y, wide, high] = ["x", "y", "width", "height"].map(|name| attribute(tag, name));
            [x, x + wide, y, y + high]
        })
        .collect()
}

/// Tags are closed in the order in which they were opened, and no text holds a bare mark.
fn is_well_formed(svg: &str) -> bool {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = svg;
    while let Some(from) = rest.find('<') {
        let text = &rest[..from];
        let entities = ["&amp;", "&lt;", "&gt;", "&quot;", "&apos;"];
        let bare = text.match_indices('&').any(|(at, _)| !entities.iter().any(|e| text[at..].starts_with(e)));
        let Some(to) = rest[from..].find('>') else { return false };
        let tag = &rest[from + 1..from + to];
        if bare || text.contains('>') || tag.matches('"').count() % 2 == 1 {
            return false;
        }
        rest = &rest[from + to + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            if open.pop() != Some(name) {
                return false;
            }
        } else if !tag.ends_with('/') {
            open.push(tag.split(' ').next().unwrap_or(tag));
        }
    }
    open.is_empty() && rest.trim().is_empty()
}

#[test]
fn blocks_lie_where_their_time_and_bytes_are() {
    let half = 1 << 19;
    let svg =
        drawing(vec![block(10, 60, 0, half), block(60, 110, half, half), block(35, 110, 0, 1)], 2).svg();
    let (bottom, middle) = (TOP + HEIGHT, TOP + HEIGHT / 2);
    let (left, right) = (LEFT, LEFT + WIDTH);
    assert_eq!(
        edges(&svg),
        [
            [left, left + WIDTH / 2, middle, bottom],
            [left + WIDTH / 2, right, TOP, middle],
            [left + WIDTH / 4, right, bottom, bottom]
        ]
    );
    let bound = svg.lines().find(|line| line.contains("<title>lower bound</title>")).expect("a line");
    assert_eq!((attribute(bound, "y1"), attribute(bound, "y2")), (middle, middle));
}

#[test]
fn a_name_stands_across_or_upright_or_not_at_all() {
    let named = |from, to, len| Block { label: "a name".to_owned(), ..block(from, to, 0, len) };
    let text = |block| {
        let svg = drawing(vec![block], 0).svg();
        svg.lines().find(|line| line.ends_with(">a name</text>")).map(str::to_owned)
    };
    let across = text(named(10, 60, 1 << 19)).expect("there is room");
    assert_eq!(attribute(&across, "x"), LEFT + 40);
    // Two of a hundred instants are 180 tenths: too narrow for a name, and wide enough for a letter.
    let upright = text(named(10, 12, 1 << 19)).expect("it is high enough");
    assert!(upright.contains("rotate(-90)") && upright.contains(&tenths(TOP + HEIGHT - 40)), "{upright}");
    assert_eq!(text(named(10, 12, 1 << 15)), None);
}

#[test]
fn peak_and_bound_can_be_read() {
    let svg = drawing(Vec::new(), 0).svg();
    for words in ["peak 1MiB", "lower bound 512KiB"] {
        let texts: Vec<&str> = svg.lines().filter(|line| line.contains(&format!(">{words}<"))).collect();
        assert_eq!(texts.len(), 2, "an edge and the words: {texts:?}");
        assert!(texts[0].contains("stroke=\"#ffffff\"") && !texts[1].contains("stroke"), "{texts:?}");
    }
}

#[test]
fn what_is_apart_in_memory_is_apart_in_the_picture() {
    // Odd sizes, so that every edge is rounded.
    let blocks: Vec<Block> = (0..97u64)
        .map(|number| block(10 + number % 7 * 13, 23 + number % 7 * 13, number * 10_007, 10_007))
        .collect();
    let found = edges(&drawing(blocks.clone(), 0).svg());
    assert_eq!(found.len(), blocks.len());
    for (a, b) in found.iter().zip(&found[1..]) {
        assert_eq!(a[2], b[3], "one ends where the next begins");
        assert!(a[0] >= LEFT && a[1] <= LEFT + WIDTH && b[2] >= TOP && a[3] <= TOP + HEIGHT);
    }
}

#[test]
fn the_extremes_stay_inside_and_nothing_overflows() {
    let mut extreme = drawing(vec![block(0, u64::MAX, u64::MAX, u64::MAX)], 0);
    (extreme.peak, extreme.span) = (Bytes::MAX, (0, u64::MAX));
    assert_eq!(edges(&extreme.svg()), [[LEFT, LEFT + WIDTH, TOP, TOP]]);
    let mut empty = drawing(vec![block(0, 9, 0, 0)], 0);
    (empty.peak, empty.bound, empty.span) = (Bytes::ZERO, Bytes::ZERO, (5, 5));
    assert!(is_well_formed(&empty.svg()));
}

#[test]
fn a_picture_is_well_formed_and_fetches_nothing() {
    let svg = drawing(vec![block(10, 110, 0, 1 << 20)], 30).svg();
    assert!(is_well_formed(&svg), "{svg}");
    assert!(
        !is_well_formed("<svg><a></svg></a>") && !is_well_formed("<svg>a & b</svg>"),
        "the check can fail"
    );
    assert!(svg.starts_with("<svg xmlns=") && svg.matches("http").count() == 1);
    assert!(svg.contains("&lt;script&gt;") && !svg.contains("<script") && !svg.contains('\u{7}'));
}

#[test]
fn thirty_models_have_thirty_colours_and_rows_inside_the_picture() {
    let colours: std::collections::BTreeSet<_> = (0..32).map(colour).collect();
    assert_eq!(colours.len(), 32);
    let far = |a: (u8, u8, u8), b: (u8, u8, u8)| {
        a.0.abs_diff(b.0).max(a.1.abs_diff(b.1)).max(a.2.abs_diff(b.2)) >= 18
    };
    assert!((0..32).all(|a| (0..a).all(|b| far(colour(a), colour(b)))), "some are hardly told apart");
    let svg = drawing(Vec::new(), 60).svg();
    let height = attribute(&svg, "height");
    let rows: Vec<u64> =
        svg.lines().filter(|l| l.contains("height=\"12\"")).map(|l| attribute(l, "y")).collect();
    assert_eq!(rows.len(), 60);
    assert!(rows.windows(2).all(|pair| pair[1] - pair[0] >= 140) && rows[59] + 120 < height);
}

#[test]
fn long_names_are_cut() {
    assert_eq!(
        (short("lane10", 6), short("lane10", 5), short("lane10", 2)),
        ("lane10".into(), "lan..".into(), String::new())
    );
}
