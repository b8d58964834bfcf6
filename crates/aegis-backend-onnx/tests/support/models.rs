//! The models of the cache: shapes, and which output is carried to which input.

use std::collections::BTreeMap;

use aegis_cuda::ModelRequest;

/// A model with its axes fixed.
pub struct Model {
    pub name: &'static str,
    pub shapes: &'static [(&'static str, &'static [u64])],
    /// Output to input.
    pub state: &'static [(&'static str, &'static str)],
}

pub const MODELS: [Model; 9] = [
    Model {
        name: "silero_vad",
        shapes: &[("input", &[1, 576]), ("h", &[1, 1, 128]), ("c", &[1, 1, 128])],
        state: &[("hn", "h"), ("cn", "c")],
    },
    Model {
        name: "dtln_1",
        shapes: &[("input_2", &[1, 1, 257]), ("input_3", &[1, 2, 128, 2])],
        state: &[("tf_op_layer_stack_2", "input_3")],
    },
    Model {
        name: "dtln_2",
        shapes: &[("input_4", &[1, 1, 512]), ("input_5", &[1, 2, 128, 2])],
        state: &[("tf_op_layer_stack_5", "input_5")],
    },
    Model { name: "melspectrogram", shapes: &[("input", &[1, 1760])], state: &[] },
    Model { name: "speech_embedding", shapes: &[("input_1", &[1, 76, 32, 1])], state: &[] },
    Model { name: "ocr_det", shapes: &[("x", &[1, 3, 480, 640])], state: &[] },
    Model { name: "ocr_rec", shapes: &[("x", &[1, 3, 48, 320])], state: &[] },
    Model { name: "ocr_cls", shapes: &[("x", &[1, 3, 48, 192])], state: &[] },
    Model { name: "magika", shapes: &[("bytes", &[1, 2048])], state: &[] },
];

pub fn find(name: &str) -> &'static Model {
    MODELS.iter().find(|model| model.name == name).expect("one of the nine")
}

impl Model {
    /// The file's bytes. Call only with a cache.
    pub fn bytes(&self) -> Vec<u8> {
        let path =
            super::cache().expect("asked for before").join("models").join(format!("{}.onnx", self.name));
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    pub fn shapes(&self) -> BTreeMap<String, Vec<u64>> {
        self.shapes.iter().map(|(name, shape)| ((*name).to_owned(), shape.to_vec())).collect()
    }
}

/// A request without control flow.
pub fn request<'a>(
    name: &'a str,
    artifact: &'a [u8],
    shapes: &'a BTreeMap<String, Vec<u64>>,
) -> ModelRequest<'a> {
    ModelRequest { name, artifact, shapes, allow_control_flow: false }
}
