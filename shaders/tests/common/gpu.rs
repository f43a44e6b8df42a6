//! Kernels on lavapipe or another device, with all of their memory at hand.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::sync::Arc;
use std::time::Duration;

use onebit_plan::gpu::{binding, step};
use onebit_shaders::{Immediate, Kernel, compile};
use onebit_vulkan::{
    Buffer, Device, Inspect, Instance, PhysicalDevice, Pipeline, PipelineDesc, Place, Recorder,
    Transfer, Validation, VulkanError,
};

/// What the bindings show.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    pub arena: Vec<u32>,
    pub vectors: Vec<u32>,
    pub cache: Vec<u32>,
    pub step: Vec<u32>,
    pub logits: Vec<u32>,
    pub rope: Vec<u32>,
}

impl Memory {
    /// With a step of rows at (slot, position), all of which are outputs.
    pub fn of_rows(rows: &[(u32, u32)]) -> Self {
        let mut words = vec![0; step::COUNT];
        words[step::ROWS] = rows.len() as u32;
        words[step::OUTPUT_ROWS] = rows.len() as u32;
        for (i, &(slot, position)) in rows.iter().enumerate() {
            words[step::SLOTS + i] = slot;
            words[step::POSITIONS + i] = position;
            words[step::OUTPUTS + i] = i as u32;
        }
        Self { step: words, ..Self::default() }
    }

    /// Puts floats at the end of the arena, at a multiple of 256 bytes; returns their first word.
    pub fn push(&mut self, floats: &[f32]) -> u32 {
        let at = self.room(floats.len());
        for (i, x) in floats.iter().enumerate() {
            self.arena[at as usize + i] = x.to_bits();
        }
        at
    }

    /// Words at the end of the arena, that no kernel should leave as they are.
    pub fn room(&mut self, words: usize) -> u32 {
        let at = self.arena.len().next_multiple_of(64);
        self.arena.resize(at, 0);
        self.arena.resize(at + words, 0x7fc0_dead);
        at as u32
    }

    /// Puts floats at the end of the vectors; returns their first word.
    pub fn push_vector(&mut self, floats: &[f32]) -> u32 {
        let at = self.vectors.len();
        self.vectors.extend(floats.iter().map(|x| x.to_bits()));
        at as u32
    }

    /// Floats of the arena.
    pub fn floats(&self, at: u32, count: usize) -> Vec<f32> {
        self.arena[at as usize..][..count].iter().map(|&x| f32::from_bits(x)).collect()
    }

    fn part(&mut self, number: u32) -> &mut Vec<u32> {
        match number {
            binding::ARENA | binding::RECORDS => &mut self.arena,
            binding::VECTORS => &mut self.vectors,
            binding::CACHE => &mut self.cache,
            binding::STEP => &mut self.step,
            binding::LOGITS => &mut self.logits,
            binding::ROPE => &mut self.rope,
            other => panic!("these kernels have no binding {other}"),
        }
    }
}

/// Lavapipe, or else what this machine has.
pub struct Gpu {
    device: Arc<Device>,
    _instance: Instance,
}

impl Gpu {
    /// The device, or a loud line about why there is none. Chosen by what the drivers say of
    /// themselves, so no environment is needed.
    pub fn open() -> Option<Self> {
        let instance = match Instance::new(Validation::Off) {
            Err(error @ (VulkanError::NoLoader { .. } | VulkanError::NoDriver)) => {
                eprintln!("skipped: {error}");
                return None;
            }
            other => other.expect("an instance"),
        };
        let devices = instance.devices().expect("devices");
        let able = |device: &&PhysicalDevice| device.info().lacks.is_empty();
        let lavapipe = devices.iter().find(|device| device.info().is_lavapipe());
        let Some(found) = lavapipe.or_else(|| devices.iter().find(able)) else {
            eprintln!("skipped: none of the {} devices runs plans", devices.len());
            return None;
        };
        let device = found.open().expect("the device opens");
        eprintln!("on {}", device.info().name);
        Some(Self { device, _instance: instance })
    }

    /// Runs one dispatch and brings back what it wrote.
    pub fn run(
        &self,
        kernel: &Kernel,
        groups: [u32; 3],
        memory: &mut Memory,
        immediate: impl Fn(Immediate) -> u32,
    ) {
        let module = compile(kernel).unwrap_or_else(|e| panic!("{e}\n{}", kernel.wgsl));
        let bindings: Vec<u32> = kernel.slots.iter().map(|slot| slot.binding).collect();
        let desc = PipelineDesc {
            name: &kernel.name,
            spirv: &module.words,
            bindings: &bindings,
            immediates: 4 * kernel.immediates.len() as u32,
            workgroup: kernel.workgroup,
            subgroup: None,
            inspect: Inspect::No,
        };
        let pipeline = Pipeline::new(&self.device, &desc, None).expect("a pipeline");
        let buffers = self.upload(&bindings, memory);
        let windows: Vec<_> = buffers.iter().map(|(_, buffer)| buffer.window()).collect();
        let immediates: Vec<u32> = kernel.immediates.iter().map(|&it| immediate(it)).collect();
        let mut recorder = Recorder::new(&self.device, &kernel.name, 0).expect("a recorder");
        recorder.dispatch(&pipeline, &windows, &immediates, groups).expect("a dispatch");
        recorder.host_barrier();
        let commands = recorder.finish().expect("commands");
        let ticket = self.device.submit(&[&commands]).expect("a submission");
        self.device.wait(ticket, Duration::from_secs(120)).expect("an end");
        for (number, buffer) in &buffers {
            if kernel.slots.iter().any(|slot| slot.binding == *number && slot.writes) {
                self.download(buffer, memory.part(*number));
            }
        }
    }

    /// One buffer for each binding; the arena's two share one.
    fn upload(&self, bindings: &[u32], memory: &mut Memory) -> Vec<(u32, Arc<Buffer>)> {
        let mut buffers: Vec<(u32, Arc<Buffer>)> = Vec::new();
        for &number in bindings {
            let arena = buffers.iter().find(|(known, _)| {
                [*known, number].iter().all(|n| [binding::ARENA, binding::RECORDS].contains(n))
            });
            let buffer = match arena {
                Some((_, buffer)) => Arc::clone(buffer),
                None => {
                    let words = memory.part(number);
                    let bytes: Vec<u8> = words.iter().flat_map(|x| x.to_le_bytes()).collect();
                    let length = bytes.len().next_multiple_of(256).max(256) as u64;
                    let buffer = Buffer::new(&self.device, "memory", length, Place::Shared);
                    let buffer = buffer.expect("a buffer");
                    Transfer::new(&self.device).write(&buffer, 0, &bytes).expect("an upload");
                    buffer
                }
            };
            buffers.push((number, buffer));
        }
        buffers
    }

    fn download(&self, buffer: &Arc<Buffer>, words: &mut [u32]) {
        let mut bytes = vec![0; words.len() * 4];
        Transfer::new(&self.device).read(buffer, 0, &mut bytes).expect("a download");
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = u32::from_le_bytes(bytes.try_into().expect("four bytes"));
        }
    }
}

/// Numbers that look like activations: about normal, a few large.
pub struct Noise(u64);

impl Noise {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// From 0 to 1.
    fn uniform(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn float(&mut self) -> f32 {
        let sum: f64 = (0..6).map(|_| self.uniform() - 0.5).sum();
        let large = if self.uniform() < 0.01 { 8.0 } else { 1.0 };
        (sum * 1.4 * large) as f32
    }

    pub fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.float()).collect()
    }
}
