//! An opened device with its one queue.

use std::ffi::{CString, c_char};
use std::sync::{Arc, Mutex};

use ash::{ext, khr, vk};

use crate::physical::{self, PhysicalDevice};
use crate::queue::QueueState;
use crate::{DeviceInfo, VulkanError};

/// An opened device. Everything made with it keeps it.
pub struct Device {
    pub(crate) handle: ash::Device,
    pub(crate) memory: vk::PhysicalDeviceMemoryProperties,
    pub(crate) executables: Option<khr::pipeline_executable_properties::Device>,
    pub(crate) queue_family: u32,
    pub(crate) queue: Mutex<QueueState>,
    /// Counts submissions that ended.
    pub(crate) timeline: vk::Semaphore,
    names: Option<ext::debug_utils::Device>,
    physical: PhysicalDevice,
}

impl Device {
    pub(crate) fn open(physical: PhysicalDevice) -> Result<Arc<Self>, VulkanError> {
        let Some(queue_family) = physical.queue_family else {
            let device = physical.info().name.clone();
            return Err(VulkanError::Lacks { device, lacks: vec!["a queue for compute"] });
        };
        let instance = Arc::clone(&physical.instance);
        let handle = create(&physical, queue_family)?;
        // SAFETY: the device is one of the instance's.
        let memory =
            unsafe { instance.handle.get_physical_device_memory_properties(physical.handle) };
        let load = || khr::pipeline_executable_properties::Device::new(&instance.handle, &handle);
        let executables = physical.info().inspects.then(load);
        let load = || ext::debug_utils::Device::new(&instance.handle, &handle);
        let names = instance.validates().then(load);
        // SAFETY: the device was created with one queue of this family.
        let queue = unsafe { handle.get_device_queue(queue_family, 0) };
        let mut kind = vk::SemaphoreTypeCreateInfo::default()
            .semaphore_type(vk::SemaphoreType::TIMELINE)
            .initial_value(0);
        let info = vk::SemaphoreCreateInfo::default().push_next(&mut kind);
        // SAFETY: the feature is enabled.
        let timeline = unsafe { handle.create_semaphore(&info, None) };
        let timeline = timeline.map_err(|result| {
            // SAFETY: nothing was made with the device, and nobody else knows it.
            unsafe { handle.destroy_device(None) };
            VulkanError::call("make a semaphore", result)
        })?;
        Ok(Arc::new(Self {
            handle,
            memory,
            executables,
            queue_family,
            queue: Mutex::new(QueueState { handle: queue, last: 0 }),
            timeline,
            names,
            physical,
        }))
    }

    /// What is known of it.
    pub fn info(&self) -> &DeviceInfo {
        self.physical.info()
    }

    /// Gives an object a name for the validation layer's messages.
    pub(crate) fn name<H: vk::Handle>(&self, object: H, name: &str) {
        let (Some(names), Ok(name)) = (&self.names, CString::new(name)) else { return };
        let info =
            vk::DebugUtilsObjectNameInfoEXT::default().object_handle(object).object_name(&name);
        // SAFETY: the object is this device's and alive. A name that is not taken changes nothing.
        let _ = unsafe { names.set_debug_utils_object_name(&info) };
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: whoever submitted has waited, see `Commands`; a lost device runs nothing.
        unsafe { self.handle.destroy_semaphore(self.timeline, None) };
        // SAFETY: all that was made with the device kept it, so nothing of it is left.
        unsafe { self.handle.destroy_device(None) };
    }
}

/// Enables all that modules may need and the device has, and nothing else.
fn create(physical: &PhysicalDevice, queue_family: u32) -> Result<ash::Device, VulkanError> {
    use onebit_plan::gpu::GpuFeature::{CooperativeF16, CooperativeI8};
    let info = physical.info();
    let priorities = [1.0];
    let queues = [vk::DeviceQueueCreateInfo::default()
        .queue_family_index(queue_family)
        .queue_priorities(&priorities)];
    let (v10, mut v11, mut v12, mut v13) = physical::supported(physical).enable();
    let matrices = [CooperativeF16, CooperativeI8].iter().any(|it| info.features.contains(it));
    let mut matrix =
        vk::PhysicalDeviceCooperativeMatrixFeaturesKHR::default().cooperative_matrix(matrices);
    let mut executable = vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default()
        .pipeline_executable_info(info.inspects);
    let mut extensions: Vec<*const c_char> = Vec::new();
    let mut create = vk::DeviceCreateInfo::default()
        .queue_create_infos(&queues)
        .enabled_features(&v10)
        .push_next(&mut v11)
        .push_next(&mut v12)
        .push_next(&mut v13);
    if matrices {
        extensions.push(khr::cooperative_matrix::NAME.as_ptr());
        create = create.push_next(&mut matrix);
    }
    if info.inspects {
        extensions.push(khr::pipeline_executable_properties::NAME.as_ptr());
        create = create.push_next(&mut executable);
    }
    let create = create.enabled_extension_names(&extensions);
    let instance = &physical.instance.handle;
    // SAFETY: all that `create` points at lives until the end of this function, and the device
    // has all of it.
    unsafe { instance.create_device(physical.handle, &create, None) }
        .map_err(VulkanError::during(format!("open the device {}", info.name)))
}
