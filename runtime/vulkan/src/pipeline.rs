//! Pipelines: one SPIR-V module each, compiled for the device.

use std::ffi::c_char;
use std::sync::Arc;

use ash::vk;

use crate::{Device, VulkanError};

/// What a pipeline is made of.
#[derive(Clone, Copy, Debug)]
pub struct PipelineDesc<'a> {
    /// For messages.
    pub name: &'a str,
    /// SPIR-V up to 1.6 with the entry point `main`. Not validated: drivers trust it.
    pub spirv: &'a [u32],
    /// Storage buffers of descriptor set 0, ascending.
    pub bindings: &'a [u32],
    /// Bytes of push constants, a multiple of 4.
    pub immediates: u32,
    /// Invocations of a workgroup: `[x, 1, 1]`, as in the module.
    pub workgroup: u32,
    /// Subgroup size to ask for; `None` takes the device's own. Subgroups are full wherever
    /// `workgroup` is a multiple of their size.
    pub subgroup: Option<u32>,
    pub inspect: Inspect,
}

/// Whether [`Pipeline::executables`] will be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Inspect {
    #[default]
    No,
    /// Compiles anew, past all caches. Changes nothing on devices that cannot be looked into.
    Yes,
}

/// A compute pipeline with its layout.
pub struct Pipeline {
    device: Arc<Device>,
    handle: vk::Pipeline,
    layout: vk::PipelineLayout,
    set_layout: vk::DescriptorSetLayout,
    bindings: Box<[u32]>,
    immediates: u32,
    inspect: Inspect,
}

/// Pipelines that the driver compiled, for the next start.
pub struct PipelineCache {
    device: Arc<Device>,
    handle: vk::PipelineCache,
}

/// What a driver's compiler tells of a pipeline.
#[derive(Clone, Debug, PartialEq)]
pub struct Executable {
    pub name: String,
    pub description: String,
    pub subgroup: u32,
    /// Names are the driver's own; numbers of all kinds as floats.
    pub statistics: Vec<(String, f64)>,
    /// Names and texts of the program's forms, such as the machine code.
    pub representations: Vec<(String, String)>,
}

impl Pipeline {
    /// Compiles a module.
    ///
    /// # Errors
    /// [`VulkanError::Limit`] for sizes outside the device's; what its compiler refuses.
    pub fn new(
        device: &Arc<Device>,
        desc: &PipelineDesc<'_>,
        cache: Option<&PipelineCache>,
    ) -> Result<Arc<Self>, VulkanError> {
        check(device, desc)?;
        let failed = |what| VulkanError::during(format!("make {what} of {}", desc.name));
        // From here on, dropping the value frees what was made.
        let mut pipeline = Self {
            device: Arc::clone(device),
            handle: vk::Pipeline::null(),
            layout: vk::PipelineLayout::null(),
            set_layout: vk::DescriptorSetLayout::null(),
            bindings: desc.bindings.into(),
            immediates: desc.immediates,
            inspect: desc.inspect,
        };
        pipeline.set_layout = set_layout(device, desc.bindings).map_err(failed("the bindings"))?;
        pipeline.layout =
            layout(device, pipeline.set_layout, desc.immediates).map_err(failed("the layout"))?;
        let info = vk::ShaderModuleCreateInfo::default().code(desc.spirv);
        // SAFETY: the words live for the call; that they are SPIR-V is the caller's promise.
        let module = unsafe { device.handle.create_shader_module(&info, None) }
            .map_err(failed("the module"))?;
        let made = compile(device, desc, module, pipeline.layout, cache);
        // SAFETY: the pipeline does not need its module any more.
        unsafe { device.handle.destroy_shader_module(module, None) };
        pipeline.handle = made.map_err(failed("the pipeline"))?;
        device.name(pipeline.handle, desc.name);
        device.name(pipeline.layout, desc.name);
        Ok(Arc::new(pipeline))
    }

    /// What the driver's compiler tells; nothing without [`Inspect::Yes`] or on a device that
    /// cannot be looked into.
    ///
    /// # Errors
    /// What the driver refuses.
    pub fn executables(&self) -> Result<Vec<Executable>, VulkanError> {
        let (Some(functions), Inspect::Yes) = (&self.device.executables, self.inspect) else {
            return Ok(Vec::new());
        };
        let info = vk::PipelineInfoKHR::default().pipeline(self.handle);
        // SAFETY: the feature is enabled and the pipeline is alive.
        let found = unsafe { functions.get_pipeline_executable_properties(&info) }
            .map_err(VulkanError::during("list a pipeline's executables"))?;
        (0..).zip(&found).map(|(index, properties)| self.executable(index, properties)).collect()
    }

    pub(crate) fn device(&self) -> &Arc<Device> {
        &self.device
    }

    pub(crate) fn handle(&self) -> vk::Pipeline {
        self.handle
    }

    pub(crate) fn layout(&self) -> vk::PipelineLayout {
        self.layout
    }

    pub(crate) fn set_layout(&self) -> vk::DescriptorSetLayout {
        self.set_layout
    }

    /// Binding numbers, in the order in which windows are given.
    pub fn bindings(&self) -> &[u32] {
        &self.bindings
    }

    /// Bytes of push constants.
    pub fn immediates(&self) -> u32 {
        self.immediates
    }

    fn executable(
        &self,
        index: u32,
        properties: &vk::PipelineExecutablePropertiesKHR<'_>,
    ) -> Result<Executable, VulkanError> {
        Ok(Executable {
            name: text(&properties.name),
            description: text(&properties.description),
            subgroup: properties.subgroup_size,
            statistics: self.statistics(index)?,
            representations: self.representations(index)?,
        })
    }

    fn statistics(&self, index: u32) -> Result<Vec<(String, f64)>, VulkanError> {
        let Some(functions) = &self.device.executables else { return Ok(Vec::new()) };
        let info =
            vk::PipelineExecutableInfoKHR::default().pipeline(self.handle).executable_index(index);
        // SAFETY: the pipeline captures statistics and has this executable.
        let found = unsafe { functions.get_pipeline_executable_statistics(&info) }
            .map_err(VulkanError::during("read a pipeline's statistics"))?;
        Ok(found.iter().map(|statistic| (text(&statistic.name), number(statistic))).collect())
    }

    /// Asks for the lengths first and for the texts after, as the interface wants it.
    fn representations(&self, index: u32) -> Result<Vec<(String, String)>, VulkanError> {
        let Some(functions) = &self.device.executables else { return Ok(Vec::new()) };
        let info =
            vk::PipelineExecutableInfoKHR::default().pipeline(self.handle).executable_index(index);
        // SAFETY: the pipeline captures representations and has this executable.
        let mut found =
            unsafe { functions.get_pipeline_executable_internal_representations(&info) }
                .map_err(VulkanError::during("list a pipeline's representations"))?;
        let mut texts: Vec<Vec<u8>> = found.iter().map(|it| vec![0; it.data_size]).collect();
        for (representation, text) in found.iter_mut().zip(&mut texts) {
            representation.p_data = text.as_mut_ptr().cast();
        }
        let mut count = found.len() as u32;
        let ask = functions.fp().get_pipeline_executable_internal_representations_khr;
        let device = functions.device();
        // SAFETY: every representation points at a buffer of the size that it says.
        let result = unsafe { ask(device, &raw const info, &raw mut count, found.as_mut_ptr()) };
        if result != vk::Result::SUCCESS {
            return Err(VulkanError::call("read a pipeline's representations", result));
        }
        let named = found.iter().zip(&texts).take(count as usize);
        Ok(named
            .map(|(representation, bytes)| {
                let length = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
                let written = String::from_utf8_lossy(&bytes[..length]).into_owned();
                (text(&representation.name), written)
            })
            .collect())
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        let device = &self.device.handle;
        // SAFETY: commands that use the pipeline keep it until they ended. Null is allowed.
        unsafe { device.destroy_pipeline(self.handle, None) };
        // SAFETY: as above.
        unsafe { device.destroy_pipeline_layout(self.layout, None) };
        // SAFETY: as above.
        unsafe { device.destroy_descriptor_set_layout(self.set_layout, None) };
    }
}

impl PipelineCache {
    /// A cache that begins with what [`PipelineCache::data`] gave, or empty. Drivers ignore data
    /// of others; damaged data must not be given.
    ///
    /// # Errors
    /// What the driver refuses.
    pub fn new(device: &Arc<Device>, data: &[u8]) -> Result<Self, VulkanError> {
        let info = vk::PipelineCacheCreateInfo::default().initial_data(data);
        // SAFETY: the data lives for the call.
        let handle = unsafe { device.handle.create_pipeline_cache(&info, None) }
            .map_err(VulkanError::during("make a pipeline cache"))?;
        Ok(Self { device: Arc::clone(device), handle })
    }

    /// All compiled pipelines, in the driver's form.
    ///
    /// # Errors
    /// What the driver refuses.
    pub fn data(&self) -> Result<Vec<u8>, VulkanError> {
        // SAFETY: the cache is alive.
        unsafe { self.device.handle.get_pipeline_cache_data(self.handle) }
            .map_err(VulkanError::during("read a pipeline cache"))
    }
}

impl Drop for PipelineCache {
    fn drop(&mut self) {
        // SAFETY: the cache is only used inside calls that borrow it.
        unsafe { self.device.handle.destroy_pipeline_cache(self.handle, None) };
    }
}

fn check(device: &Device, desc: &PipelineDesc<'_>) -> Result<(), VulkanError> {
    let info = device.info();
    let (limits, subgroups) = (&info.limits, &info.subgroups);
    let size = desc.subgroup.unwrap_or(subgroups.min);
    // The number of subgroups is limited where their size is asked for only
    // (VUID-VkPipelineShaderStageCreateInfo-pNext-02756).
    let most = match desc.subgroup {
        None => limits.invocations,
        Some(size) => limits.invocations.min(size.saturating_mul(subgroups.per_workgroup)),
    };
    let power = desc.subgroup.is_none_or(u32::is_power_of_two);
    let limits = [
        ("bytes of immediates", desc.immediates, 0, limits.immediates),
        ("invocations of a workgroup", desc.workgroup, 1, most),
        ("the size of subgroups", size, subgroups.min, if power { subgroups.max } else { 0 }),
    ];
    for (what, found, least, most) in limits {
        if !(least..=most).contains(&found) {
            let what = format!("{what} of {}", desc.name);
            let allowed = format!("{least}..={most}");
            return Err(VulkanError::Limit { what, found: found.into(), allowed });
        }
    }
    Ok(())
}

fn set_layout(device: &Device, numbers: &[u32]) -> Result<vk::DescriptorSetLayout, vk::Result> {
    let bindings: Vec<_> = numbers
        .iter()
        .map(|&number| {
            vk::DescriptorSetLayoutBinding::default()
                .binding(number)
                .descriptor_type(vk::DescriptorType::STORAGE_BUFFER)
                .descriptor_count(1)
                .stage_flags(vk::ShaderStageFlags::COMPUTE)
        })
        .collect();
    let info = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings);
    // SAFETY: the bindings live for the call.
    unsafe { device.handle.create_descriptor_set_layout(&info, None) }
}

fn layout(
    device: &Device,
    set: vk::DescriptorSetLayout,
    immediates: u32,
) -> Result<vk::PipelineLayout, vk::Result> {
    let sets = [set];
    let ranges = [vk::PushConstantRange::default()
        .stage_flags(vk::ShaderStageFlags::COMPUTE)
        .size(immediates)];
    let mut info = vk::PipelineLayoutCreateInfo::default().set_layouts(&sets);
    if immediates > 0 {
        info = info.push_constant_ranges(&ranges);
    }
    // SAFETY: what `info` points at lives for the call, and the range was checked.
    unsafe { device.handle.create_pipeline_layout(&info, None) }
}

fn compile(
    device: &Device,
    desc: &PipelineDesc<'_>,
    module: vk::ShaderModule,
    layout: vk::PipelineLayout,
    cache: Option<&PipelineCache>,
) -> Result<vk::Pipeline, vk::Result> {
    let largest = desc.subgroup.unwrap_or(device.info().subgroups.max);
    let mut required = vk::PipelineShaderStageRequiredSubgroupSizeCreateInfo::default()
        .required_subgroup_size(largest);
    let mut stage = vk::PipelineShaderStageCreateInfo::default()
        .stage(vk::ShaderStageFlags::COMPUTE)
        .module(module)
        .name(c"main");
    if desc.workgroup.is_multiple_of(largest) {
        stage = stage.flags(vk::PipelineShaderStageCreateFlags::REQUIRE_FULL_SUBGROUPS);
    }
    if desc.subgroup.is_some() {
        stage = stage.push_next(&mut required);
    }
    let mut info = vk::ComputePipelineCreateInfo::default().stage(stage).layout(layout);
    if desc.inspect == Inspect::Yes && device.executables.is_some() {
        info = info.flags(
            vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR
                | vk::PipelineCreateFlags::CAPTURE_INTERNAL_REPRESENTATIONS_KHR,
        );
    }
    let cache = cache.map_or(vk::PipelineCache::null(), |cache| cache.handle);
    // SAFETY: all that `info` points at lives for the call.
    match unsafe { device.handle.create_compute_pipelines(cache, &[info], None) } {
        Ok(made) => made.first().copied().ok_or(vk::Result::ERROR_UNKNOWN),
        Err((_, result)) => Err(result),
    }
}

/// A driver's text, up to its zero.
fn text(bytes: &[c_char]) -> String {
    let bytes: Vec<u8> = bytes.iter().map(|&c| c as u8).take_while(|&byte| byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn number(statistic: &vk::PipelineExecutableStatisticKHR<'_>) -> f64 {
    use vk::PipelineExecutableStatisticFormatKHR as Format;
    let value = &statistic.value;
    match statistic.format {
        // SAFETY: the format says which field is set.
        Format::BOOL32 => f64::from(unsafe { value.b32 }),
        // SAFETY: the format says which field is set.
        Format::INT64 => (unsafe { value.i64 }) as f64,
        // SAFETY: the format says which field is set.
        Format::UINT64 => (unsafe { value.u64 }) as f64,
        // SAFETY: the format says which field is set.
        Format::FLOAT64 => unsafe { value.f64 },
        _ => f64::NAN,
    }
}
