//! The machine that a plan is made for: what is known of it, and what that decides.
//!
//! A name says little; a `box.sys` says which instructions, which Vulkan devices and which neural
//! processor there are, and how fast memory is read. Nothing here looks at the machine that
//! compiles, but for the name `host`.

use std::fmt;
use std::fs;
use std::path::Path;

use onebit_plan::box_sys::{BoxDescription, BoxNpu};

use crate::emit::{Options, Vulkan};
use crate::error::CompileError;
use crate::schedule::repack::Placement;

/// What the array of a neural processor must have: columns, rows, rows of compute tiles.
const ARRAY: (u16, u16, u16) = (8, 6, 4);

/// A machine by its description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    pub description: BoxDescription,
    /// BLAKE3 of the description's text, in hexadecimal.
    pub hash: String,
}

impl Machine {
    /// Reads a description.
    ///
    /// # Errors
    /// [`CompileError::Read`] for a file that cannot be read, [`CompileError::Box`] for one that is no
    /// description of this version.
    pub fn read(path: &Path) -> Result<Self, CompileError> {
        let text = fs::read_to_string(path)
            .map_err(|source| CompileError::Read { path: path.to_owned(), source })?;
        let wrong = |source| CompileError::Box { path: path.to_owned(), source };
        let description = BoxDescription::parse(&text).map_err(wrong)?;
        let hash = description.hash().map_err(wrong)?;
        Ok(Self { description, hash })
    }

    /// Its neural processor, if plans can be made for it.
    pub fn npu(&self) -> Option<&BoxNpu> {
        let fits = |npu: &&BoxNpu| {
            let (columns, rows, compute) = ARRAY;
            npu.columns >= columns && (npu.rows, npu.compute_rows) == (rows, compute)
        };
        self.description.npu.as_ref().filter(fits)
    }

    /// Whether code that needs these features runs on it.
    ///
    /// # Errors
    /// [`CompileError::Features`] with those that it lacks.
    pub fn runs(&self, features: &[String]) -> Result<(), CompileError> {
        let has = &self.description.processor.features;
        let lacks: Vec<&str> =
            features.iter().filter(|it| !has.contains(it)).map(String::as_str).collect();
        if lacks.is_empty() {
            return Ok(());
        }
        Err(CompileError::Features { lacks: lacks.join(" ") })
    }
}

/// What a plan is made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The machine that compiles, of which only the architecture is looked at.
    Host,
    /// AMD's Strix Halo, with its neural processor.
    StrixHalo,
    /// Any machine of an architecture, by Rust's name.
    Architecture(String),
    /// A machine that is known.
    Machine(Box<Machine>),
}

impl Target {
    /// A target by its name, or by the path of a description: whatever has a dot or a separator.
    ///
    /// # Errors
    /// As of [`Machine::read`].
    pub fn parse(text: &str) -> Result<Self, CompileError> {
        Ok(match text {
            "host" => Self::Host,
            "strix-halo" => Self::StrixHalo,
            path if path.contains(['.', '/', std::path::MAIN_SEPARATOR]) => {
                Self::Machine(Box::new(Machine::read(Path::new(path))?))
            }
            other => Self::Architecture(other.into()),
        })
    }

    fn architecture(&self) -> &str {
        match self {
            Self::Host => std::env::consts::ARCH,
            Self::StrixHalo => "x86_64",
            Self::Architecture(name) => name,
            Self::Machine(machine) => &machine.description.processor.architecture,
        }
    }

    /// Why products cannot go to a neural processor there.
    fn no_array(&self) -> Option<&'static str> {
        match self {
            Self::StrixHalo => None,
            Self::Machine(machine) if machine.npu().is_some() => None,
            Self::Machine(machine) if machine.description.npu.is_some() => {
                Some("the array of the box's NPU is another than the one that plans are made for")
            }
            Self::Machine(_) => Some("the box has no NPU"),
            Self::Host | Self::Architecture(_) => {
                Some("nothing is known of an NPU there: give `--target strix-halo` or a box.sys")
            }
        }
    }
}

/// Where a plan must be able to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Require {
    /// All products on the neural processor.
    Npu,
    /// Whole steps on a Vulkan device.
    Gpu,
    /// All products on the processor, in the form that suits it.
    Cpu,
}

impl fmt::Display for Require {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Npu => "npu",
            Self::Gpu => "gpu",
            Self::Cpu => "cpu",
        })
    }
}

impl Options {
    /// These options for a target: its architecture, and products on its neural processor where it
    /// has one and nobody requires another place, which leaves no part for Vulkan devices.
    ///
    /// # Errors
    /// [`CompileError::Require`] for a place that the target is known not to have. What hangs on
    /// the model is found when it is compiled.
    pub fn for_target(
        self,
        target: Target,
        require: Option<Require>,
    ) -> Result<Self, CompileError> {
        let refuse =
            |require, reason: &str| CompileError::Require { require, reason: reason.into() };
        let no_array = target.no_array();
        let placement = match (require, no_array) {
            (Some(Require::Npu), Some(reason)) => return Err(refuse(Require::Npu, reason)),
            (Some(Require::Gpu | Require::Cpu), _) | (None, Some(_)) => Placement::Cpu,
            (Some(Require::Npu) | None, None) => Placement::Array,
        };
        let vulkan = match (require, self.vulkan) {
            (Some(Require::Gpu), Vulkan::Without) => {
                return Err(refuse(Require::Gpu, "`--no-gpu` leaves that part out"));
            }
            (Some(Require::Gpu), _) => Vulkan::Required,
            (_, vulkan) => vulkan,
        };
        let architecture = target.architecture().to_owned();
        let machine = match target {
            Target::Machine(machine) => Some(*machine),
            Target::Host | Target::StrixHalo | Target::Architecture(_) => None,
        };
        let has_gpu = machine.as_ref().is_none_or(|it| !it.description.gpus.is_empty());
        if require == Some(Require::Gpu) && !has_gpu {
            return Err(refuse(Require::Gpu, "the box has no Vulkan device that runs plans"));
        }
        Ok(Self { architecture, placement, vulkan, machine, require, ..self })
    }
}
