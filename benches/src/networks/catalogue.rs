//! Every network that can be made, by name, in a size for a large GPU and in one for a processor core.

use super::classify::{self, Block};
use super::draft::{Draft, Network, Precision};
use super::{sequence, vision};

/// How large a network is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// 0.3 to 2 ms on a large GPU, at most 60 MB of weights.
    Full,
    /// Milliseconds on one processor core.
    Tiny,
}

/// A network by name.
#[derive(Clone, Copy)]
pub struct Design {
    /// Its name, and of its file.
    pub name: &'static str,
    /// What it does, in a few words.
    pub about: &'static str,
    draw: fn(&mut Draft, Size),
}

/// Every network.
pub const DESIGNS: [Design; 20] = [
    design("camera", "cleans up a camera's raw picture", |draft, size| match size {
        Size::Full => vision::camera(draft, [192, 320], 32, 3),
        Size::Tiny => vision::camera(draft, [32, 64], 8, 1),
    }),
    design("detector", "boxes at three scales", |draft, size| match size {
        Size::Full => vision::detector(draft, [384, 640], 32, 2, 80),
        Size::Tiny => vision::detector(draft, [64, 96], 8, 1, 10),
    }),
    design("detector_small", "boxes of few classes at three scales", |draft, size| match size {
        Size::Full => vision::detector(draft, [256, 416], 24, 1, 16),
        Size::Tiny => vision::detector(draft, [64, 64], 8, 1, 4),
    }),
    design("pillars", "boxes from a laser scan", |draft, size| match size {
        Size::Full => vision::pillars(draft, [192, 192], 64, 2),
        Size::Tiny => vision::pillars(draft, [32, 32], 8, 1),
    }),
    design("segmentation", "a class for every place", |draft, size| match size {
        Size::Full => vision::segmentation(draft, [256, 512], 32, 19),
        Size::Tiny => vision::segmentation(draft, [64, 64], 8, 8),
    }),
    design("depth", "a distance for every place", |draft, size| match size {
        Size::Full => vision::depth(draft, [192, 640], 48, [2, 2, 2, 2]),
        Size::Tiny => vision::depth(draft, [64, 64], 8, [1, 1, 1, 1]),
    }),
    design("lanes", "four lanes by rows", |draft, size| match size {
        Size::Full => vision::lanes(draft, [160, 384], 48, 36),
        Size::Tiny => vision::lanes(draft, [64, 96], 8, 6),
    }),
    design("identity", "tells people and cars apart", |draft, size| match size {
        Size::Full => vision::identity(draft, [256, 128], 64, 256),
        Size::Tiny => vision::identity(draft, [64, 32], 16, 32),
    }),
    design("pose", "a map for every joint", |draft, size| match size {
        Size::Full => vision::pose(draft, [256, 192], 24, 17),
        Size::Tiny => vision::pose(draft, [64, 64], 8, 8),
    }),
    design("predictor", "paths of everyone near", |draft, size| match size {
        Size::Full => sequence::predictor(draft, 128, 256, 4),
        Size::Tiny => sequence::predictor(draft, 16, 64, 1),
    }),
    design("speech", "letters from sound", |draft, size| match size {
        Size::Full => sequence::speech(draft, 400, 256, 6),
        Size::Tiny => sequence::speech(draft, 80, 64, 1),
    }),
    design("keyword", "a word or a sound", |draft, size| match size {
        Size::Full => sequence::keyword(draft, 200, 192, 8),
        Size::Tiny => sequence::keyword(draft, 100, 48, 2),
    }),
    design("classifier", "1000 classes, 18 layers", |draft, size| match size {
        Size::Full => classify::residual(draft, 224, Block::Plain, 64, [2, 2, 2, 2]),
        Size::Tiny => classify::residual(draft, 64, Block::Plain, 8, [1, 1, 1, 1]),
    }),
    design("classifier_deep", "1000 classes, 50 layers", |draft, size| match size {
        Size::Full => classify::residual(draft, 224, Block::Bottleneck, 192, [3, 4, 6, 3]),
        Size::Tiny => classify::residual(draft, 64, Block::Bottleneck, 32, [1, 1, 2, 1]),
    }),
    design("classifier_152", "1000 classes, 152 layers", |draft, size| match size {
        Size::Full => classify::residual(draft, 224, Block::Bottleneck, 112, [3, 8, 36, 3]),
        Size::Tiny => classify::residual(draft, 64, Block::Bottleneck, 32, [1, 2, 4, 1]),
    }),
    design("classifier_mobile", "1000 classes, for phones", |draft, size| match size {
        Size::Full => classify::mobile(draft, 224, 32, ("scores", 1000)),
        Size::Tiny => classify::mobile(draft, 64, 8, ("scores", 100)),
    }),
    design("classifier_plain", "1000 classes, 19 layers without short cuts", |draft, size| match size {
        Size::Full => classify::plain(draft, 128, 48, 768),
        Size::Tiny => classify::plain(draft, 32, 8, 64),
    }),
    design("classifier_dense", "1000 classes, every layer seen by all after it", |draft, size| match size {
        Size::Full => classify::dense(draft, 224, 24, &[6, 12, 18, 12]),
        Size::Tiny => classify::dense(draft, 64, 8, &[2, 3, 2]),
    }),
    design("attention", "how awake a driver is", |draft, size| match size {
        Size::Full => classify::mobile(draft, 160, 24, ("states", 12)),
        Size::Tiny => classify::mobile(draft, 48, 8, ("states", 6)),
    }),
    design("signs", "which sign a crop shows", |draft, size| match size {
        Size::Full => classify::residual(draft, 96, Block::Plain, 48, [2, 2, 2, 2]),
        Size::Tiny => classify::residual(draft, 32, Block::Plain, 8, [1, 1, 1, 1]),
    }),
];

const fn design(name: &'static str, about: &'static str, draw: fn(&mut Draft, Size)) -> Design {
    Design { name, about, draw }
}

impl Design {
    /// The network of that name.
    pub fn find(name: &str) -> Option<&'static Self> {
        DESIGNS.iter().find(|design| design.name == name)
    }

    /// Makes the network with weights drawn from `seed`.
    pub fn make(&self, size: Size, precision: Precision, seed: u64) -> Network {
        let mut draft = Draft::new(self.name, precision, seed);
        (self.draw)(&mut draft, size);
        draft.finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use aegis_types::ContentHash;

    use super::*;

    /// The size that files may have: a fleet of twenty is made anew wherever it runs.
    const WEIGHTS_MAX: u64 = 60_000_000;

    #[test]
    fn every_name_stands_once() {
        let names: BTreeSet<&str> = DESIGNS.iter().map(|design| design.name).collect();
        assert_eq!(names.len(), DESIGNS.len());
        assert!(Design::find("detector").is_some() && Design::find("director").is_none());
    }

    #[test]
    fn equal_seeds_make_equal_files_and_other_seeds_others() {
        for design in &DESIGNS {
            let hash = |seed| ContentHash::of(&design.make(Size::Tiny, Precision::Fp32, seed).file);
            assert_eq!(hash(1), hash(1), "{}", design.name);
            assert_ne!(hash(1), hash(2), "{}", design.name);
        }
    }

    #[test]
    fn half_precision_halves_the_weights_and_leaves_the_interface() {
        for design in &DESIGNS {
            let [full, half] = [Precision::Fp32, Precision::Fp16].map(|p| design.make(Size::Tiny, p, 1));
            assert_eq!((&full.inputs, &full.outputs), (&half.inputs, &half.outputs), "{}", design.name);
            assert!(half.weights * 100 < full.weights * 52, "{}", design.name);
            assert_eq!(full.work, half.work, "{}", design.name);
        }
    }

    /// Drawn in half precision, because that is the faster one to draw; the other has twice the weights.
    #[test]
    fn full_sizes_keep_to_the_limit_of_weights() {
        for design in &DESIGNS {
            let made = design.make(Size::Full, Precision::Fp16, 1);
            assert!(2 * made.weights <= WEIGHTS_MAX, "{}: {} B", design.name, 2 * made.weights);
            assert!(made.nodes < 1_000 && made.work > 0, "{}", design.name);
        }
    }
}
