//! A model under measurement: where its file lies, how it is made, and what is asked of it.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, bail};
use onebit_test_support::{ModelShape, Quantisation, RealModel};
use serde::Serialize;

use super::{Options, SEED};
use crate::make_model;

/// What the project asks of one model: over llama.cpp's decoding speed, and of the device's copy
/// bandwidth.
const BARS: [(&str, f64, Option<f64>); 4] = [
    ("smollm2-135m:q4_1", 3.0, None),
    ("qwen3-1.7b:q4_k", 2.5, None),
    ("bonsai-1.7b:q1_0", 3.0, None),
    ("qwen3-8b:q4_k", 2.5, Some(0.6)),
];
/// Asked of every model: all sequences of the batch over one sequence.
pub const BATCH_BAR: f64 = 16.0;
/// Asked of every model: prefill over llama.cpp's.
pub const PREFILL_BAR: f64 = 0.5;

pub struct Subject {
    /// `qwen3-1.7b:q4_k`, or a file's name
    pub name: String,
    pub gguf: PathBuf,
    /// Ids below this exist.
    pub vocabulary: u32,
    /// Bytes of the file that have to be read for a token, where that is known.
    pub bytes_per_token: Option<u64>,
    pub decode_bar: Option<f64>,
    pub bandwidth_bar: Option<f64>,
    recipe: Option<Recipe>,
}

struct Recipe {
    shape: &'static ModelShape,
    quantisation: Quantisation,
    layers: Option<usize>,
}

/// How a file was made.
#[derive(Serialize)]
pub struct Made {
    pub bytes: u64,
    pub seconds: f64,
}

impl Subject {
    /// The model of that name in `--models`.
    pub fn new(name: &str, options: &Options) -> Result<Self> {
        if name.ends_with(".gguf") {
            let gguf = PathBuf::from(name);
            if !gguf.is_file() {
                bail!("there is no file {name}");
            }
            let name = gguf.file_name().unwrap_or_default().to_string_lossy().into_owned();
            // Every vocabulary in use has more.
            let vocabulary = 1000;
            let (decode_bar, bandwidth_bar, recipe) = (None, None, None);
            let bytes_per_token = None;
            return Ok(Self {
                name,
                gguf,
                vocabulary,
                bytes_per_token,
                decode_bar,
                bandwidth_bar,
                recipe,
            });
        }
        let (shape, quantisation) = match name.split_once(':') {
            Some((shape, format)) => {
                (make_model::shape(shape)?, format.parse().map_err(anyhow::Error::msg)?)
            }
            None => {
                let shape = make_model::shape(name)?;
                (shape, make_model::usual(shape)?)
            }
        };
        let layers = options.layers.filter(|&layers| layers < shape.layers);
        let cut = layers.map(|layers| format!("-{layers}-layers")).unwrap_or_default();
        let gguf = options.work.join(format!("{}-{quantisation}{cut}.gguf", shape.name));
        let name = format!("{}:{quantisation}{cut}", shape.name);
        let model = RealModel::new(shape, quantisation, layers, SEED)?;
        let bar = BARS.iter().find(|(known, ..)| *known == name);
        Ok(Self {
            decode_bar: bar.map(|bar| bar.1),
            bandwidth_bar: bar.and_then(|bar| bar.2),
            name,
            gguf,
            vocabulary: shape.vocabulary as u32,
            bytes_per_token: Some(model.bytes_per_token()),
            recipe: Some(Recipe { shape, quantisation, layers }),
        })
    }

    /// Makes the file, which is not there yet.
    pub fn make(&self) -> Result<Made> {
        let Some(&Recipe { shape, quantisation, layers }) = self.recipe.as_ref() else {
            bail!("{} is gone", self.gguf.display());
        };
        let start = Instant::now();
        let bytes = make_model::write(shape, quantisation, layers, SEED, &self.gguf)?;
        Ok(Made { bytes, seconds: start.elapsed().as_secs_f64() })
    }
}
