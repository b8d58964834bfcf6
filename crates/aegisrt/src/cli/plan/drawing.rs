//! Bytes over time as a picture that needs nothing but itself: time goes across, offsets go up.
//!
//! Geometry is in tenths of a pixel, and integer: edges that meet in memory meet in the picture, and what is apart is
//! never drawn overlapping.

use std::fmt::Write as _;

use aegis_types::Bytes;

use crate::cli::figures::size;
use crate::cli::svg::{escaped, tenths};

const LEFT: u64 = 900;
const TOP: u64 = 900;
const WIDTH: u64 = 9_000;
const HEIGHT: u64 = 6_000;
/// Where the legend begins, and how wide and high its rows are.
const LEGEND: (u64, u64, u64) = (LEFT + WIDTH + 250, 2_400, 180);
/// Below the plot: names of bands, and the words of the axis.
const BELOW: u64 = 500;
/// Letters of the smaller size are 6 pixels wide at most, and lines of it 12 high.
const LETTER: (u64, u64) = (60, 120);
/// Longest name in the legend that is shown whole.
const NAME: usize = 30;

/// How a block is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// In the colour of its owner.
    Solid,
    /// Paler, in the colour of its owner.
    Pale,
    /// Held, but not in use: grey, with a dashed edge.
    Held,
}

/// Bytes that are in use for a time.
#[derive(Clone, Debug)]
pub struct Block {
    /// First instant.
    pub from: u64,
    /// First instant behind.
    pub to: u64,
    /// Where it begins.
    pub offset: Bytes,
    /// How many bytes.
    pub len: Bytes,
    /// Position of the owner's colour.
    pub colour: usize,
    /// How it is filled.
    pub fill: Fill,
    /// Written into it where there is room.
    pub label: String,
    /// Shown by a pointer that rests on it.
    pub words: String,
}

/// A stretch of time with a name below it.
#[derive(Clone, Debug)]
pub struct Band {
    /// First instant.
    pub from: u64,
    /// First instant behind.
    pub to: u64,
    /// What it is called.
    pub name: String,
}

/// What is drawn.
#[derive(Clone, Debug)]
pub struct Drawing {
    /// Above everything.
    pub title: String,
    /// Below it.
    pub subtitle: String,
    /// What goes across.
    pub across: String,
    /// First instant, and first behind the last.
    pub span: (u64, u64),
    /// A line at the highest byte in use.
    pub peak: Bytes,
    /// A line that no plan can be below.
    pub bound: Bytes,
    /// Stretches of time.
    pub bands: Vec<Band>,
    /// In the order in which they are drawn.
    pub blocks: Vec<Block>,
    /// The owners, by colour.
    pub legend: Vec<String>,
}

impl Drawing {
    /// The picture.
    pub fn svg(&self) -> String {
        let rows = TOP + LEGEND.2 * (self.legend.len() as u64 + 1);
        let height = (TOP + HEIGHT + BELOW).max(rows);
        let width = if self.legend.is_empty() { LEGEND.0 } else { LEGEND.0 + LEGEND.1 };
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{h}\" viewBox=\"0 0 {w} {h}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n<title>{title}</title>\n\
             <rect width=\"{w}\" height=\"{h}\" fill=\"#ffffff\"/>\n\
             <text x=\"12\" y=\"26\" font-size=\"16\">{title}</text>\n<text x=\"12\" y=\"46\">{subtitle}</text>\n",
            w = tenths(width),
            h = tenths(height),
            title = escaped(&self.title),
            subtitle = escaped(&self.subtitle),
        );
        self.scale(&mut out);
        self.blocks.iter().for_each(|block| self.block(&mut out, block));
        self.bands.iter().for_each(|band| self.band(&mut out, band));
        self.lines(&mut out);
        self.names(&mut out);
        out.push_str("</svg>\n");
        out
    }

    /// The highest byte on the scale.
    fn top(&self) -> u64 {
        self.peak.max(self.bound).get().max(1)
    }

    /// Where an instant is; instants outside are drawn at the edge.
    fn x(&self, instant: u64) -> u64 {
        let (from, to) = self.span;
        let inside = u128::from(instant.clamp(from, to.max(from)) - from);
        LEFT + scaled(inside, to.saturating_sub(from), WIDTH)
    }

    /// Where an offset is.
    fn y(&self, offset: u64) -> u64 {
        TOP + HEIGHT - scaled(u128::from(offset.min(self.top())), self.top(), HEIGHT)
    }

    /// Offsets up the left side, at multiples of a power of two.
    fn scale(&self, out: &mut String) {
        let step = (self.top() / 8).max(1);
        let step = step.checked_next_power_of_two().unwrap_or(step);
        for offset in (0..=self.top() / step).map(|mark| mark * step) {
            let y = self.y(offset);
            let _infallible = writeln!(
                out,
                "<line x1=\"{}\" y1=\"{y}\" x2=\"{}\" y2=\"{y}\" stroke=\"#dddddd\"/>\
                 <text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
                tenths(LEFT),
                tenths(LEFT + WIDTH),
                tenths(LEFT - 60),
                tenths(y + 40),
                escaped(&size(Bytes::new(offset))),
                y = tenths(y),
            );
        }
        let _infallible = writeln!(
            out,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            tenths(LEFT + WIDTH / 2),
            tenths(TOP + HEIGHT + BELOW - 120),
            escaped(&self.across)
        );
    }

    fn block(&self, out: &mut String, block: &Block) {
        let end = block.offset.get().saturating_add(block.len.get());
        let (x, y) = (self.x(block.from), self.y(end));
        let (wide, high) = (self.x(block.to) - x, self.y(block.offset.get()) - y);
        let (red, green, blue) = colour(block.colour);
        let fill = format!("#{red:02x}{green:02x}{blue:02x}");
        let look = match block.fill {
            Fill::Solid => format!("fill=\"{fill}\" stroke=\"#444444\" stroke-width=\"0.4\""),
            Fill::Pale => {
                format!("fill=\"{fill}\" fill-opacity=\"0.5\" stroke=\"#444444\" stroke-width=\"0.4\"")
            }
            Fill::Held => {
                "fill=\"#eeeeee\" stroke=\"#999999\" stroke-width=\"0.6\" stroke-dasharray=\"3 2\"".to_owned()
            }
        };
        let _infallible = writeln!(
            out,
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" {look}><title>{}</title></rect>",
            tenths(x),
            tenths(y),
            tenths(wide),
            tenths(high),
            escaped(&block.words)
        );
        // What the eye takes for brightness, in thousandths.
        let bright = 299 * u32::from(red) + 587 * u32::from(green) + 114 * u32::from(blue);
        let ink = if bright > 120_000 || block.fill != Fill::Solid { "#000000" } else { "#ffffff" };
        label(out, &block.label, (x, y), (wide, high), ink);
    }

    fn band(&self, out: &mut String, band: &Band) {
        let (from, to) = (self.x(band.from), self.x(band.to));
        let _infallible = writeln!(
            out,
            "<line x1=\"{x}\" y1=\"{}\" x2=\"{x}\" y2=\"{}\" stroke=\"#000000\" stroke-width=\"0.8\"/>",
            tenths(TOP),
            tenths(TOP + HEIGHT + 60),
            x = tenths(from),
        );
        let _infallible = writeln!(
            out,
            "<text x=\"{}\" y=\"{}\" font-size=\"10\" text-anchor=\"middle\">{}</text>",
            tenths(from.midpoint(to)),
            tenths(TOP + HEIGHT + 170),
            escaped(&short(&band.name, usize::try_from((to - from) / LETTER.0).unwrap_or(NAME)))
        );
    }

    /// Peak and lower bound: labelled at places of their own, so that both can be read where they meet, and away from the
    /// left, where the names of blocks stand.
    fn lines(&self, out: &mut String) {
        let lines = [
            (self.peak, "peak", "#000000", "none", LEFT + WIDTH, "end"),
            (self.bound, "lower bound", "#c00000", "6 3", LEFT + WIDTH / 4 * 3, "middle"),
        ];
        for (bytes, name, colour, dashes, x, anchor) in lines {
            let y = self.y(bytes.get());
            let _infallible = writeln!(
                out,
                "<line x1=\"{}\" y1=\"{y}\" x2=\"{}\" y2=\"{y}\" stroke=\"{colour}\" stroke-width=\"1.5\" \
                 stroke-dasharray=\"{dashes}\"><title>{name}</title></line>",
                tenths(LEFT),
                tenths(LEFT + WIDTH),
                y = tenths(y),
            );
            // A white edge, and the words over it: not every program knows an order of paint within one text.
            for paint in ["stroke=\"#ffffff\" stroke-width=\"3\"", ""] {
                let _infallible = writeln!(
                    out,
                    "<text x=\"{}\" y=\"{}\" text-anchor=\"{anchor}\" fill=\"{colour}\" {paint}>{name} {}</text>",
                    tenths(x),
                    tenths(y - 50),
                    escaped(&size(bytes)),
                );
            }
        }
    }

    fn names(&self, out: &mut String) {
        for (position, name) in self.legend.iter().enumerate() {
            let y = TOP + LEGEND.2 * position as u64;
            let (red, green, blue) = colour(position);
            let _infallible = writeln!(
                out,
                "<rect x=\"{}\" y=\"{}\" width=\"12\" height=\"12\" fill=\"#{red:02x}{green:02x}{blue:02x}\"/>\
                 <text x=\"{}\" y=\"{}\">{}</text>",
                tenths(LEGEND.0),
                tenths(y),
                tenths(LEGEND.0 + 170),
                tenths(y + 100),
                escaped(&short(name, NAME))
            );
        }
    }
}

/// Writes a name into a block at `(x, y)`: across where it has the room, else upright, else not at all.
fn label(out: &mut String, name: &str, (x, y): (u64, u64), (wide, high): (u64, u64), ink: &str) {
    let room = LETTER.0 * (name.chars().count() as u64 + 1);
    let place = if name.is_empty() {
        return;
    } else if high >= LETTER.1 && wide >= room {
        // At the left edge, where no edge of a band crosses it.
        format!("x=\"{}\" y=\"{}\"", tenths(x + 40), tenths(y + high / 2 + 35))
    } else if wide >= LETTER.1 && high >= room {
        // From the lower edge up.
        format!(
            "transform=\"translate({} {}) rotate(-90)\"",
            tenths(x + wide / 2 + 35),
            tenths(y + high - 40)
        )
    } else {
        return;
    };
    let _infallible = writeln!(out, "<text {place} font-size=\"10\" fill=\"{ink}\">{}</text>", escaped(name));
}

/// Eight hues that are told apart without red and green (Okabe and Ito), then the same ones lighter, darker and very
/// light: 32 in all before they repeat.
fn colour(position: usize) -> (u8, u8, u8) {
    const HUES: [(u8, u8, u8); 8] = [
        (0xe6, 0x9f, 0x00),
        (0x56, 0xb4, 0xe9),
        (0x00, 0x9e, 0x73),
        (0xf0, 0xe4, 0x42),
        (0x00, 0x72, 0xb2),
        (0xd5, 0x5e, 0x00),
        (0xcc, 0x79, 0xa7),
        (0x99, 0x99, 0x99),
    ];
    let (red, green, blue) = HUES[position % HUES.len()];
    let (part, towards) = match position / HUES.len() % 4 {
        0 => (0, 0),
        1 => (80, 255),
        2 => (145, 0),
        _ => (160, 255),
    };
    // A mean of two numbers below 256.
    let mixed = |value: u8| ((u32::from(value) * (255 - part) + towards * part) / 255) as u8;
    (mixed(red), mixed(green), mixed(blue))
}

/// A share of a length, rounded down.
fn scaled(part: u128, whole: u64, length: u64) -> u64 {
    let place = part * u128::from(length) / u128::from(whole.max(1));
    u64::try_from(place).unwrap_or(length).min(length)
}

/// A name of at most so many letters.
fn short(name: &str, most: usize) -> String {
    if name.chars().count() <= most {
        return name.to_owned();
    }
    let kept: String = name.chars().take(most.saturating_sub(2)).collect();
    if kept.is_empty() { kept } else { format!("{kept}..") }
}

#[cfg(test)]
mod tests;
