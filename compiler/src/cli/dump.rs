//! `onebitc dump`.

use onebitc::Stage;

use super::args::{Dump, StageName};
use super::failure::Failure;
use super::{open_model, print};

/// Prints a model's IR at one stage.
pub fn run(args: &Dump) -> Result<(), Failure> {
    let model = open_model(&args.model)?;
    let stage = match args.stage {
        StageName::Graph => Stage::Graph,
        StageName::Fused => Stage::Fused,
        StageName::Schedule => Stage::Schedule,
    };
    print(&onebitc::dump(&model, &args.shape.options()?, stage)?)
}
