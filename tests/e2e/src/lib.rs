//! Drives a model through the compiler and the runtime, and through the interpreter, so that
//! tests can compare the two.
#![forbid(unsafe_code)]

pub mod flips;
pub mod kill;
pub mod programs;

use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;

use onebit_ir::interp::{CacheKind, Interp, InterpOptions};
use onebit_ir::verify;
use onebit_models::Model;
use onebit_models::gguf::GgufFile;
use onebit_plan::PlanFile;
use onebit_plan::abi::CacheForm;
use onebit_plan::trust::{AllowedPlan, KeyId};
use onebit_rt::driver::cpu::{CpuDriver, CpuOptions};
use onebit_rt::driver::{Driver, Row};
use onebit_test_support::{TinyOptions, tiny_model};
use onebitc::Options;
use onebitc::schedule::repack::Placement;
use onebitc::sign::SecretKey;
use tempfile::TempDir;

/// A model, its plan, and the folder that holds the plan.
pub struct Compiled {
    pub model: Model,
    pub plan: AllowedPlan,
    pub folder: TempDir,
}

/// Compiles a model file in memory.
pub fn compile_bytes(bytes: Vec<u8>, options: &Options) -> Compiled {
    let file = GgufFile::parse(bytes).expect("the model file parses");
    compile(Model::from_file(file).expect("the model builds"), options)
}

/// Compiles a model file on disk.
pub fn compile_file(path: &Path, options: &Options) -> Compiled {
    compile(Model::open(path).expect("the model opens"), options)
}

fn compile(model: Model, options: &Options) -> Compiled {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("model.plan");
    onebitc::compile(&model, Path::new("model.gguf"), &path, options, &mut |_, _| {})
        .expect("the model compiles");
    let plan = AllowedPlan::untrusted(PlanFile::open(&path).expect("the plan opens"));
    Compiled { model, plan, folder }
}

/// The key that signs plans in tests.
pub fn test_key() -> Arc<SecretKey> {
    Arc::new(SecretKey::from_seed(KeyId([5; 8]), [5; 32]).expect("not all zeros"))
}

/// Two signed plans that together have all kinds of segments: one for CPU and GPU, one for CPU and
/// neural processor.
pub fn tiny_plans() -> [Compiled; 2] {
    [Placement::Cpu, Placement::Array].map(|placement| {
        let signer = Some(test_key());
        let options = Options { context: Some(64), placement, signer, ..Options::default() };
        compile_bytes(tiny_model("llama", &TinyOptions::default()), &options)
    })
}

impl Compiled {
    /// A driver with `threads` threads and all slots of the plan.
    pub fn driver(&self, threads: usize) -> CpuDriver {
        let slots = self.plan.manifest().memory.slots;
        let options = CpuOptions { threads: std::num::NonZeroUsize::new(threads), slots };
        CpuDriver::load(self.plan.clone(), options).expect("the plan loads")
    }

    /// The interpreter's logits of every row, over the model's own graph, with the plan's form of
    /// the cache.
    pub fn oracle(&self, steps: &[Vec<Row>]) -> Vec<Vec<f32>> {
        let kind = match self.plan.manifest().memory.cache {
            CacheForm::F16 => CacheKind::F16,
            CacheForm::Q8 => CacheKind::Q8,
        };
        self.oracle_with(steps, kind)
    }

    /// As [`Self::oracle`], with a cache of any kind.
    pub fn oracle_with(&self, steps: &[Vec<Row>], cache: CacheKind) -> Vec<Vec<f32>> {
        let graph = self.model.graph();
        let info = verify(graph).expect("the graph is valid");
        let count = |n: u32| NonZeroU32::new(n).expect("not zero");
        let options = InterpOptions {
            context: count(self.plan.manifest().model.context),
            slots: count(self.plan.manifest().memory.slots),
            cache,
            weight_memory: usize::MAX,
        };
        let mut interp = Interp::new(graph, &info, &self.model, options);
        let run = |rows: &Vec<Row>| {
            let rows: Vec<_> = rows.iter().map(oracle_row).collect();
            interp.step(&rows).expect("the oracle runs")
        };
        steps.iter().map(run).collect()
    }
}

fn oracle_row(row: &Row) -> onebit_ir::interp::Row {
    let Row { token, position, slot, output } = *row;
    onebit_ir::interp::Row { token, position, slot, output }
}

/// The driver's logits of every step.
pub fn run(driver: &mut dyn Driver, steps: &[Vec<Row>]) -> Vec<Vec<f32>> {
    let vocabulary = driver.limits().vocabulary as usize;
    let mut step = |rows: &Vec<Row>| {
        let outputs = rows.iter().filter(|row| row.output).count();
        let mut logits = vec![f32::NAN; outputs * vocabulary];
        driver.step(rows, &mut logits).expect("the step runs");
        logits
    };
    steps.iter().map(&mut step).collect()
}

/// `tokens` of one slot as steps of at most `rows` rows, all with logits.
pub fn chunks(tokens: &[u32], slot: u32, rows: usize) -> Vec<Vec<Row>> {
    let all: Vec<Row> = (0u32..)
        .zip(tokens)
        .map(|(position, &token)| Row { token, position, slot, output: true })
        .collect();
    all.chunks(rows).map(<[Row]>::to_vec).collect()
}

/// Squared error over squared reference, both about the reference's mean.
pub fn normalised_error(found: &[f32], reference: &[f32]) -> f64 {
    assert_eq!(found.len(), reference.len());
    let mean = reference.iter().map(|&x| f64::from(x)).sum::<f64>() / reference.len() as f64;
    let error: f64 =
        found.iter().zip(reference).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum();
    let power: f64 = reference.iter().map(|&b| (f64::from(b) - mean).powi(2)).sum();
    error / power
}
