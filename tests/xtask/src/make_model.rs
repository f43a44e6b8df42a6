//! `cargo xtask make-model`: a GGUF with a published model's shape and random weights.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use onebit_test_support::{ModelShape, Quantisation, RealModel, SHAPES};

#[derive(clap::Args)]
pub struct Options {
    /// smollm2-135m, qwen3-0.6b, qwen3-1.7b, bonsai-1.7b, qwen3-8b or llama-3.2-1b
    #[arg(long)]
    shape: String,
    /// A block format (q4_1, q4_k, q1_0, q8_0 ...) or q4_k_m [default: what the model usually has]
    #[arg(long, value_name = "FORMAT")]
    quant: Option<Quantisation>,
    /// Where to write it
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Make only the first N layers
    #[arg(long, value_name = "N")]
    layers: Option<usize>,
    /// Start of the random weights
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
}

/// Makes the file and says how large it is.
pub fn make_model(options: &Options) -> Result<()> {
    let shape = shape(&options.shape)?;
    let quantisation = match options.quant {
        Some(quantisation) => quantisation,
        None => usual(shape)?,
    };
    let start = Instant::now();
    let bytes = write(shape, quantisation, options.layers, options.seed, &options.output)?;
    let seconds = start.elapsed().as_secs_f64();
    println!("{}: {:.1} MB in {seconds:.1} s", options.output.display(), bytes as f64 / 1e6);
    Ok(())
}

/// The shape of that name.
pub fn shape(name: &str) -> Result<&'static ModelShape> {
    ModelShape::named(name).with_context(|| {
        let names: Vec<&str> = SHAPES.iter().map(|shape| shape.name).collect();
        format!("no shape {name}; there are {}", names.join(", "))
    })
}

/// The quantisation that people use with a shape.
pub fn usual(shape: &ModelShape) -> Result<Quantisation> {
    shape.usual.parse().map_err(anyhow::Error::msg)
}

/// Writes a model and gives its bytes. The file appears under its name when it is complete.
pub fn write(
    shape: &'static ModelShape,
    quantisation: Quantisation,
    layers: Option<usize>,
    seed: u64,
    path: &Path,
) -> Result<u64> {
    let model = RealModel::new(shape, quantisation, layers, seed)?;
    let unfinished = path.with_added_extension("tmp");
    let cannot = || format!("cannot write {}", unfinished.display());
    let file = File::create(&unfinished).with_context(cannot)?;
    model.write(&file).with_context(cannot)?;
    let found = file.metadata()?.len();
    if found != model.length() {
        bail!("{} has {found} bytes, expected {}", unfinished.display(), model.length());
    }
    fs::rename(&unfinished, path).with_context(cannot)?;
    Ok(found)
}
