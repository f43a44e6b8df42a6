//! What devices there are, and what each of them can do.

use std::ffi::CStr;
use std::fmt;
use std::sync::Arc;

use ash::{khr, vk};
use onebit_plan::fit::GpuCapabilities;
use onebit_plan::gpu::GpuFeature;

use crate::VulkanError;
use crate::device::Device;
use crate::instance::Shared;

/// A device that was found and not opened.
#[derive(Clone)]
pub struct PhysicalDevice {
    pub(crate) instance: Arc<Shared>,
    pub(crate) handle: vk::PhysicalDevice,
    pub(crate) queue_family: Option<u32>,
    info: DeviceInfo,
}

/// Kind of hardware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// A card with memory of its own.
    Discrete,
    /// A part of the processor.
    Integrated,
    /// Part of a virtual machine.
    Virtual,
    /// Vulkan made of software.
    Cpu,
    Other,
}

/// Sixteen bytes that name a device, a driver or the form of cached pipelines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Uuid(pub [u8; 16]);

/// Who wrote the driver, and which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Driver {
    /// `VkDriverId`; 13 is lavapipe.
    pub id: i32,
    /// `radv`, `llvmpipe`, `NVIDIA`
    pub name: String,
    /// Free text: often the version that people know, `Mesa 25.0.7`
    pub info: String,
    /// Number of the version, packed as the vendor likes.
    pub version: u32,
}

/// Bounds of a device. Bytes, unless said otherwise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Largest window of a storage buffer.
    pub storage_range: u64,
    /// Windows begin at multiples of this.
    pub storage_align: u64,
    /// Largest buffer, and the largest piece of memory for one.
    pub buffer: u64,
    /// Memory that a workgroup shares.
    pub shared: u32,
    /// Invocations of a workgroup.
    pub invocations: u32,
    /// Workgroups of a dispatch.
    pub groups: [u32; 3],
    pub immediates: u32,
    /// Nanoseconds a tick of timestamps; 0 without timestamps.
    pub tick: f32,
    /// Bits of a timestamp that count.
    pub tick_bits: u32,
    /// Bytes of the device's largest heap of its own memory.
    pub heap: u64,
    /// Bytes of all heaps, those of the system's memory that it can use included.
    pub memory: u64,
}

/// Sizes of subgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subgroups {
    /// What a pipeline gets that does not ask.
    pub size: u32,
    pub min: u32,
    pub max: u32,
    /// Subgroups of a workgroup.
    pub per_workgroup: u32,
}

/// What is known of a device before it is opened.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceInfo {
    /// `AMD Radeon 8060S (RADV GFX1151)`
    pub name: String,
    pub kind: DeviceKind,
    /// `1.3.305`
    pub api: String,
    pub driver: Driver,
    pub vendor: u32,
    pub device: u32,
    pub device_uuid: Uuid,
    pub driver_uuid: Uuid,
    /// Cached pipelines of another value are of no use.
    pub cache_uuid: Uuid,
    pub limits: Limits,
    pub subgroups: Subgroups,
    /// What modules may ask for and the device has; sorted.
    pub features: Vec<GpuFeature>,
    /// What every plan needs and the device has not, by Vulkan's names.
    pub lacks: Vec<&'static str>,
    /// Whether pipelines can be looked into, see [`crate::Pipeline::executables`].
    pub inspects: bool,
}

impl DeviceInfo {
    /// Whether it has what every plan needs.
    ///
    /// # Errors
    /// [`VulkanError::Lacks`].
    pub fn able(&self) -> Result<(), VulkanError> {
        if self.lacks.is_empty() {
            return Ok(());
        }
        Err(VulkanError::Lacks { device: self.name.clone(), lacks: self.lacks.clone() })
    }

    /// What it has of what modules may need.
    pub fn capabilities(&self) -> GpuCapabilities {
        GpuCapabilities {
            features: self.features.clone(),
            subgroup_sizes: (self.subgroups.min, self.subgroups.max),
            subgroups: self.subgroups.per_workgroup,
            invocations: self.limits.invocations,
            immediates: self.limits.immediates,
            shared: self.limits.shared,
        }
    }

    /// Whether the driver is lavapipe, Mesa's Vulkan made of software.
    pub fn is_lavapipe(&self) -> bool {
        self.driver.id == vk::DriverId::MESA_LLVMPIPE.as_raw()
    }
}

impl PhysicalDevice {
    /// What is known of it.
    pub fn info(&self) -> &DeviceInfo {
        &self.info
    }

    /// Opens the device with everything of [`DeviceInfo::features`], and one queue.
    ///
    /// # Errors
    /// [`VulkanError::Lacks`]; what the driver refuses.
    pub fn open(&self) -> Result<Arc<Device>, VulkanError> {
        self.info.able()?;
        Device::open(self.clone())
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Discrete => "discrete",
            Self::Integrated => "integrated",
            Self::Virtual => "virtual",
            Self::Cpu => "cpu",
            Self::Other => "other",
        })
    }
}

/// `1.3.305`
pub(crate) fn version(packed: u32) -> String {
    let (major, minor) = (vk::api_version_major(packed), vk::api_version_minor(packed));
    format!("{major}.{minor}.{}", vk::api_version_patch(packed))
}

pub(crate) fn enumerate(instance: &Arc<Shared>) -> Result<Vec<PhysicalDevice>, VulkanError> {
    // SAFETY: the instance is alive.
    let handles = unsafe { instance.handle.enumerate_physical_devices() };
    let handles = match handles {
        // Some loaders say so when a driver is installed and has no device.
        Err(vk::Result::ERROR_INITIALIZATION_FAILED) => Vec::new(),
        other => other.map_err(VulkanError::during("list devices"))?,
    };
    handles.into_iter().map(|handle| describe(instance, handle)).collect()
}

fn describe(
    instance: &Arc<Shared>,
    handle: vk::PhysicalDevice,
) -> Result<PhysicalDevice, VulkanError> {
    // SAFETY: the device is one of the instance's.
    let basic = unsafe { instance.handle.get_physical_device_properties(handle) };
    // SAFETY: the device is one of the instance's.
    let extensions = unsafe { instance.handle.enumerate_device_extension_properties(handle) }
        .map_err(VulkanError::during("list a device's extensions"))?;
    let has = |name: &CStr| {
        extensions.iter().any(|it| it.extension_name_as_c_str().is_ok_and(|it| it == name))
    };
    let modern = basic.api_version >= vk::API_VERSION_1_3;
    let queue = compute_queue(instance, handle);
    let features = Supported::ask(instance, handle, modern);
    let has_matrices = has(khr::cooperative_matrix::NAME) && features.matrices;
    let matrices = match has_matrices && instance.takes_matrices() {
        true => matrices(instance, handle)?,
        false => Vec::new(),
    };
    let mut info = properties(instance, handle, modern);
    info.inspects = has(khr::pipeline_executable_properties::NAME) && features.executables;
    info.features = features.of_modules(&matrices);
    if !modern {
        info.lacks.push("Vulkan 1.3");
    }
    if queue.is_none() {
        info.lacks.push("a queue for compute");
    }
    info.lacks.extend(features.lacks());
    if let Some((_, bits)) = queue {
        info.limits.tick_bits = bits;
    }
    (info.limits.heap, info.limits.memory) = heaps(instance, handle);
    let queue_family = queue.map(|(family, _)| family);
    Ok(PhysicalDevice { instance: Arc::clone(instance), handle, queue_family, info })
}

/// The first family that computes, with the bits of its timestamps. It is the one that also draws
/// where there is one: drivers schedule that one best.
fn compute_queue(instance: &Shared, handle: vk::PhysicalDevice) -> Option<(u32, u32)> {
    // SAFETY: the device is one of the instance's.
    let families = unsafe { instance.handle.get_physical_device_queue_family_properties(handle) };
    (0..)
        .zip(families)
        .find(|(_, family)| family.queue_flags.contains(vk::QueueFlags::COMPUTE))
        .map(|(index, family)| (index, family.timestamp_valid_bits))
}

/// Bytes of the largest heap of the device's own, and of all heaps that it can use.
fn heaps(instance: &Shared, handle: vk::PhysicalDevice) -> (u64, u64) {
    // SAFETY: the device is one of the instance's.
    let memory = unsafe { instance.handle.get_physical_device_memory_properties(handle) };
    let own = |heap: &&vk::MemoryHeap| heap.flags.contains(vk::MemoryHeapFlags::DEVICE_LOCAL);
    let heaps = memory.memory_heaps_as_slice();
    let largest = heaps.iter().filter(own).map(|heap| heap.size).max().unwrap_or(0);
    (largest, heaps.iter().fold(0, |sum, heap| sum.saturating_add(heap.size)))
}

/// Features that we would enable or need, as the device has them.
pub(crate) struct Supported {
    integer_dot: bool,
    subgroup_size: bool,
    full_subgroups: bool,
    synchronization2: bool,
    maintenance4: bool,
    timeline: bool,
    float16: bool,
    int8: bool,
    memory_model: bool,
    storage16: bool,
    subgroup_operations: bool,
    pub(crate) matrices: bool,
    pub(crate) executables: bool,
}

impl Supported {
    fn ask(instance: &Shared, handle: vk::PhysicalDevice, modern: bool) -> Self {
        let mut v11 = vk::PhysicalDeviceVulkan11Features::default();
        let mut v12 = vk::PhysicalDeviceVulkan12Features::default();
        let mut v13 = vk::PhysicalDeviceVulkan13Features::default();
        let mut matrix = vk::PhysicalDeviceCooperativeMatrixFeaturesKHR::default();
        let mut executable = vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default();
        let mut all = vk::PhysicalDeviceFeatures2::default();
        if modern {
            all = all
                .push_next(&mut v11)
                .push_next(&mut v12)
                .push_next(&mut v13)
                .push_next(&mut matrix)
                .push_next(&mut executable);
        }
        // SAFETY: the device is one of the instance's, the chain holds each structure once.
        unsafe { instance.handle.get_physical_device_features2(handle, &mut all) };
        let on = |flag: vk::Bool32| flag == vk::TRUE;
        Self {
            integer_dot: on(v13.shader_integer_dot_product),
            subgroup_size: on(v13.subgroup_size_control),
            full_subgroups: on(v13.compute_full_subgroups),
            synchronization2: on(v13.synchronization2),
            maintenance4: on(v13.maintenance4),
            timeline: on(v12.timeline_semaphore),
            float16: on(v12.shader_float16),
            int8: on(v12.shader_int8),
            memory_model: on(v12.vulkan_memory_model) && on(v12.vulkan_memory_model_device_scope),
            storage16: on(v11.storage_buffer16_bit_access)
                && on(v11.uniform_and_storage_buffer16_bit_access),
            subgroup_operations: modern && subgroup_operations(instance, handle),
            matrices: on(matrix.cooperative_matrix),
            executables: on(executable.pipeline_executable_info),
        }
    }

    /// What every plan needs and is not there.
    fn lacks(&self) -> impl Iterator<Item = &'static str> {
        let needs = [
            (self.subgroup_operations, "subgroup operations in compute shaders"),
            (self.subgroup_size, "subgroupSizeControl"),
            (self.full_subgroups, "computeFullSubgroups"),
            (self.synchronization2, "synchronization2"),
            (self.maintenance4, "maintenance4"),
            (self.timeline, "timelineSemaphore"),
        ];
        needs.into_iter().filter(|(there, _)| !there).map(|(_, name)| name)
    }

    fn of_modules(&self, matrices: &[GpuFeature]) -> Vec<GpuFeature> {
        let table = [
            (self.integer_dot, GpuFeature::IntegerDot),
            (self.float16, GpuFeature::Float16),
            (self.storage16, GpuFeature::Storage16),
            (self.int8, GpuFeature::Int8),
            (self.memory_model, GpuFeature::MemoryModel),
        ];
        let there = table.into_iter().filter(|(there, _)| *there).map(|(_, feature)| feature);
        let mut features: Vec<_> = there.chain(matrices.iter().copied()).collect();
        features.sort();
        features
    }

    /// The same features, to be enabled.
    pub(crate) fn enable(
        &self,
    ) -> (
        vk::PhysicalDeviceVulkan11Features<'static>,
        vk::PhysicalDeviceVulkan12Features<'static>,
        vk::PhysicalDeviceVulkan13Features<'static>,
    ) {
        let v11 = vk::PhysicalDeviceVulkan11Features::default()
            .storage_buffer16_bit_access(self.storage16)
            .uniform_and_storage_buffer16_bit_access(self.storage16);
        let v12 = vk::PhysicalDeviceVulkan12Features::default()
            .shader_float16(self.float16)
            .shader_int8(self.int8)
            .vulkan_memory_model(self.memory_model)
            .vulkan_memory_model_device_scope(self.memory_model)
            .timeline_semaphore(self.timeline);
        let v13 = vk::PhysicalDeviceVulkan13Features::default()
            .shader_integer_dot_product(self.integer_dot)
            .subgroup_size_control(self.subgroup_size)
            .compute_full_subgroups(self.full_subgroups)
            .synchronization2(self.synchronization2)
            .maintenance4(self.maintenance4);
        (v11, v12, v13)
    }
}

/// What the device offers of the features to enable, for a device known to be modern.
pub(crate) fn supported(device: &PhysicalDevice) -> Supported {
    Supported::ask(&device.instance, device.handle, true)
}

fn subgroup_operations(instance: &Shared, handle: vk::PhysicalDevice) -> bool {
    use vk::SubgroupFeatureFlags as Operations;
    let mut v11 = vk::PhysicalDeviceVulkan11Properties::default();
    let mut all = vk::PhysicalDeviceProperties2::default().push_next(&mut v11);
    // SAFETY: the device is one of the instance's, the chain holds each structure once.
    unsafe { instance.handle.get_physical_device_properties2(handle, &mut all) };
    let needed = Operations::BASIC
        | Operations::VOTE
        | Operations::ARITHMETIC
        | Operations::BALLOT
        | Operations::SHUFFLE;
    v11.subgroup_supported_operations.contains(needed)
        && v11.subgroup_supported_stages.contains(vk::ShaderStageFlags::COMPUTE)
}

/// Which of the matrix products that modules may ask for the device has.
fn matrices(instance: &Shared, handle: vk::PhysicalDevice) -> Result<Vec<GpuFeature>, VulkanError> {
    use vk::ComponentTypeKHR as Component;
    let functions = khr::cooperative_matrix::Instance::new(&instance.entry, &instance.handle);
    // SAFETY: the device has the extension.
    let shapes = unsafe { functions.get_physical_device_cooperative_matrix_properties(handle) }
        .map_err(VulkanError::during("list a device's matrix shapes"))?;
    let has = |factor: Component, sum: Component| {
        shapes.iter().any(|shape| {
            (shape.m_size, shape.n_size, shape.k_size) == (16, 16, 16)
                && (shape.a_type, shape.b_type) == (factor, factor)
                && (shape.c_type, shape.result_type) == (sum, sum)
                && shape.scope == vk::ScopeKHR::SUBGROUP
        })
    };
    let table = [
        (has(Component::FLOAT16, Component::FLOAT32), GpuFeature::CooperativeF16),
        (has(Component::SINT8, Component::SINT32), GpuFeature::CooperativeI8),
    ];
    Ok(table.into_iter().filter(|(there, _)| *there).map(|(_, feature)| feature).collect())
}

/// Names and limits. Features are left to others.
fn properties(instance: &Shared, handle: vk::PhysicalDevice, modern: bool) -> DeviceInfo {
    let mut v11 = vk::PhysicalDeviceVulkan11Properties::default();
    let mut v12 = vk::PhysicalDeviceVulkan12Properties::default();
    let mut v13 = vk::PhysicalDeviceVulkan13Properties::default();
    let mut all = vk::PhysicalDeviceProperties2::default();
    if modern {
        all = all.push_next(&mut v11).push_next(&mut v12).push_next(&mut v13);
    }
    // SAFETY: the device is one of the instance's, the chain holds each structure once.
    unsafe { instance.handle.get_physical_device_properties2(handle, &mut all) };
    let basic = all.properties;
    let text = |bytes: Result<&CStr, _>| {
        bytes.map_or_else(|_| String::new(), |text| text.to_string_lossy().into_owned())
    };
    DeviceInfo {
        name: text(basic.device_name_as_c_str()),
        kind: kind(basic.device_type),
        api: version(basic.api_version),
        driver: Driver {
            id: v12.driver_id.as_raw(),
            name: text(v12.driver_name_as_c_str()),
            info: text(v12.driver_info_as_c_str()),
            version: basic.driver_version,
        },
        vendor: basic.vendor_id,
        device: basic.device_id,
        device_uuid: Uuid(v11.device_uuid),
        driver_uuid: Uuid(v11.driver_uuid),
        cache_uuid: Uuid(basic.pipeline_cache_uuid),
        limits: Limits {
            storage_range: basic.limits.max_storage_buffer_range.into(),
            storage_align: basic.limits.min_storage_buffer_offset_alignment,
            buffer: v13.max_buffer_size.min(v11.max_memory_allocation_size),
            shared: basic.limits.max_compute_shared_memory_size,
            invocations: basic.limits.max_compute_work_group_invocations,
            groups: basic.limits.max_compute_work_group_count,
            immediates: basic.limits.max_push_constants_size,
            tick: basic.limits.timestamp_period,
            tick_bits: 0,
            heap: 0,
            memory: 0,
        },
        subgroups: Subgroups {
            size: v11.subgroup_size,
            min: v13.min_subgroup_size,
            max: v13.max_subgroup_size,
            per_workgroup: v13.max_compute_workgroup_subgroups,
        },
        features: Vec::new(),
        lacks: Vec::new(),
        inspects: false,
    }
}

fn kind(of: vk::PhysicalDeviceType) -> DeviceKind {
    match of {
        vk::PhysicalDeviceType::DISCRETE_GPU => DeviceKind::Discrete,
        vk::PhysicalDeviceType::INTEGRATED_GPU => DeviceKind::Integrated,
        vk::PhysicalDeviceType::VIRTUAL_GPU => DeviceKind::Virtual,
        vk::PhysicalDeviceType::CPU => DeviceKind::Cpu,
        _ => DeviceKind::Other,
    }
}
