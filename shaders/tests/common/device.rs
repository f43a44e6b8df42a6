//! Runs kernels on lavapipe or another device, watched by the validation layer.

use std::sync::Arc;
use std::time::Duration;

use onebit_plan::gpu::{GPU_ROWS, binding, step};
use onebit_shaders::{Immediate, Kernel, Module, compile};
use onebit_vulkan::{
    Buffer, Device, Inspect, Instance, Pipeline, PipelineDesc, Place, Recorder, Transfer,
    Validation, VulkanError,
};

/// Bytes behind the weights that a window may take in.
const SLACK: usize = 256;
const TIMEOUT: Duration = Duration::from_secs(300);

/// A device with the instance that watches it.
pub struct Gpu {
    pub instance: Instance,
    pub device: Arc<Device>,
}

impl Gpu {
    /// Lavapipe, with the validation layer where it is installed, or what else runs plans here; or
    /// a line that says why not.
    pub fn open() -> Option<Self> {
        let lavapipe = Self::find(|info| info.is_lavapipe(), "lavapipe");
        lavapipe.or_else(|| Self::find(|info| info.lacks.is_empty(), "a device that runs plans"))
    }

    /// The first device that is wanted.
    pub fn find(wanted: impl Fn(&onebit_vulkan::DeviceInfo) -> bool, what: &str) -> Option<Self> {
        let instance = match Instance::new(Validation::Calls) {
            Err(VulkanError::NoLayer { .. }) => Instance::new(Validation::Off),
            other => other,
        };
        let instance = match instance {
            Ok(instance) => instance,
            Err(error) => {
                println!("skipped: {error}");
                return None;
            }
        };
        let devices = instance.devices().expect("the devices");
        let Some(found) = devices.iter().find(|device| wanted(device.info())) else {
            println!("skipped: {what} is not among the {} devices", devices.len());
            return None;
        };
        let device = found.open().expect("an open device");
        println!("on {}", device.info().name);
        Some(Self { instance, device })
    }

    /// What the validation layer found must be nothing.
    #[track_caller]
    pub fn assert_valid(&self) {
        let findings = self.instance.take_findings();
        assert!(findings.is_empty(), "{}", findings.join("\n"));
    }

    /// A buffer with these bytes, padded to whole words of 16 bytes.
    pub fn buffer(&self, bytes: &[u8]) -> Arc<Buffer> {
        let mut bytes = bytes.to_vec();
        bytes.resize((bytes.len() + SLACK).next_multiple_of(16), 0);
        let length = bytes.len() as u64;
        let buffer = Buffer::new(&self.device, "test", length, Place::Device).expect("a buffer");
        Transfer::new(&self.device).write(&buffer, 0, &bytes).expect("a copy");
        buffer
    }

    /// The words of a buffer.
    pub fn words(&self, buffer: &Arc<Buffer>) -> Vec<u32> {
        let mut bytes = vec![0; buffer.bytes() as usize];
        Transfer::new(&self.device).read(buffer, 0, &mut bytes).expect("a copy");
        bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    }

    /// A pipeline of a kernel.
    pub fn pipeline(&self, kernel: &Kernel) -> Arc<Pipeline> {
        let module = compile(kernel).unwrap_or_else(|e| panic!("{e}"));
        self.pipeline_of(kernel, &module, None)
    }

    /// A pipeline of a kernel's module with subgroups of a size.
    pub fn pipeline_of(
        &self,
        kernel: &Kernel,
        module: &Module,
        subgroup: Option<u32>,
    ) -> Arc<Pipeline> {
        let bindings: Vec<u32> = kernel.slots.iter().map(|slot| slot.binding).collect();
        let desc = PipelineDesc {
            name: &kernel.name,
            spirv: &module.words,
            bindings: &bindings,
            immediates: 4 * kernel.immediates.len() as u32,
            workgroup: kernel.workgroup,
            subgroup,
            inspect: Inspect::No,
        };
        Pipeline::new(&self.device, &desc, None).unwrap_or_else(|e| panic!("{}: {e}", kernel.name))
    }

    /// Runs a kernel once. `buffers` are by binding; arena and records are one.
    pub fn run(
        &self,
        kernel: &Kernel,
        pipeline: &Arc<Pipeline>,
        buffers: &[(u32, &Arc<Buffer>)],
        immediate: impl Fn(Immediate) -> u32,
        groups: [u32; 3],
    ) {
        let find = |number: u32| {
            let number = if number == binding::RECORDS { binding::ARENA } else { number };
            let found = buffers.iter().find(|(known, _)| *known == number);
            let (_, buffer) = found.unwrap_or_else(|| panic!("nothing for binding {number}"));
            buffer.window()
        };
        let windows: Vec<_> = kernel.slots.iter().map(|slot| find(slot.binding)).collect();
        let immediates: Vec<u32> = kernel.immediates.iter().map(|&it| immediate(it)).collect();
        let mut recorder = Recorder::new(&self.device, "test", 0).expect("a recorder");
        recorder.dispatch(pipeline, &windows, &immediates, groups).expect("a dispatch");
        recorder.host_barrier();
        let commands = recorder.finish().expect("commands");
        let ticket = self.device.submit(&[&commands]).expect("a submission");
        self.device.wait(ticket, TIMEOUT).expect("an end");
    }
}

/// A step buffer with so many rows and outputs; `tokens` of the first rows.
pub fn step_bytes(rows: usize, outputs: usize, tokens: &[u32]) -> Vec<u8> {
    assert!(rows <= GPU_ROWS && outputs <= GPU_ROWS);
    let mut words = vec![0u32; step::COUNT];
    words[step::ROWS] = rows as u32;
    words[step::OUTPUT_ROWS] = outputs as u32;
    words[step::TOKENS..step::TOKENS + tokens.len()].copy_from_slice(tokens);
    words.into_iter().flat_map(u32::to_le_bytes).collect()
}
