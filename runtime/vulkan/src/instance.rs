//! The connection to the Vulkan loader, with or without the validation layer.

use std::ffi::{CStr, c_char, c_void};
use std::sync::{Arc, Mutex, PoisonError};

use ash::{ext, vk};

use crate::physical::PhysicalDevice;
use crate::{VulkanError, physical};

const LAYER: &str = "VK_LAYER_KHRONOS_validation";

/// What the validation layer looks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Validation {
    /// The layer is not loaded.
    #[default]
    Off,
    /// Wrong use of the interface.
    Calls,
    /// That, and missing barriers. Layers of 1.3.239 take every dispatch for a reader, so they miss
    /// those between two dispatches.
    Synchronisation,
}

/// A connection to the loader.
#[derive(Clone)]
pub struct Instance(Arc<Shared>);

/// What everything made by an instance keeps. The loader is the last to go.
pub(crate) struct Shared {
    pub(crate) handle: ash::Instance,
    pub(crate) entry: ash::Entry,
    messenger: Option<Messenger>,
}

struct Messenger {
    functions: ext::debug_utils::Instance,
    handle: vk::DebugUtilsMessengerEXT,
    /// The callback has its address.
    messages: Box<Messages>,
}

type Messages = Mutex<Vec<String>>;

impl Instance {
    /// Opens the loader, which looks for drivers.
    ///
    /// # Errors
    /// No loader, no driver, a loader before 1.3; the layer that was asked for is missing.
    pub fn new(validation: Validation) -> Result<Self, VulkanError> {
        // SAFETY: the loader is the system's own library; nothing of it is used after its handle,
        // which `Shared` drops last.
        let entry = unsafe { ash::Entry::load() }
            .map_err(|error| VulkanError::NoLoader { reason: error.to_string() })?;
        check_version(&entry)?;
        if validation != Validation::Off && !has_layer(&entry)? {
            return Err(VulkanError::NoLayer { layer: LAYER });
        }
        let handle = create(&entry, validation)?;
        let mut shared = Shared { handle, entry, messenger: None };
        if validation != Validation::Off {
            shared.messenger = Some(Messenger::new(&shared)?);
        }
        Ok(Self(Arc::new(shared)))
    }

    /// All devices of all drivers, in the loader's order.
    ///
    /// # Errors
    /// What the drivers refuse.
    pub fn devices(&self) -> Result<Vec<PhysicalDevice>, VulkanError> {
        physical::enumerate(&self.0)
    }

    /// Takes what the validation layer found so far: errors and warnings about correctness.
    pub fn take_findings(&self) -> Vec<String> {
        self.0.messenger.as_ref().map_or_else(Vec::new, |messenger| {
            std::mem::take(&mut *messenger.messages.lock().unwrap_or_else(PoisonError::into_inner))
        })
    }
}

impl Shared {
    /// Whether objects are worth names: somebody validates.
    pub(crate) fn validates(&self) -> bool {
        self.messenger.is_some()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(Messenger { functions, handle, .. }) = &self.messenger {
            // SAFETY: the messenger was made by this instance and is destroyed once.
            unsafe { functions.destroy_debug_utils_messenger(*handle, None) };
        }
        // SAFETY: all children keep an `Arc` of this value, so there are none left.
        unsafe { self.handle.destroy_instance(None) };
    }
}

fn check_version(entry: &ash::Entry) -> Result<(), VulkanError> {
    // SAFETY: has no preconditions.
    let found = unsafe { entry.try_enumerate_instance_version() }
        .map_err(VulkanError::during("ask the loader's version"))?
        .unwrap_or(vk::API_VERSION_1_0);
    if found < vk::API_VERSION_1_3 {
        return Err(VulkanError::OldLoader { found: physical::version(found) });
    }
    Ok(())
}

fn has_layer(entry: &ash::Entry) -> Result<bool, VulkanError> {
    // SAFETY: has no preconditions.
    let layers = unsafe { entry.enumerate_instance_layer_properties() }
        .map_err(VulkanError::during("list the loader's layers"))?;
    Ok(layers.iter().any(|layer| layer.layer_name_as_c_str().is_ok_and(|it| it == layer_name())))
}

fn layer_name() -> &'static CStr {
    c"VK_LAYER_KHRONOS_validation"
}

fn create(entry: &ash::Entry, validation: Validation) -> Result<ash::Instance, VulkanError> {
    let application = vk::ApplicationInfo::default()
        .application_name(c"onebit-rt")
        .engine_name(c"onebit")
        .api_version(vk::API_VERSION_1_3);
    let layers = [layer_name().as_ptr()];
    let extensions: [*const c_char; 2] =
        [ext::debug_utils::NAME.as_ptr(), ext::validation_features::NAME.as_ptr()];
    let enabled = [vk::ValidationFeatureEnableEXT::SYNCHRONIZATION_VALIDATION];
    let mut features = vk::ValidationFeaturesEXT::default().enabled_validation_features(&enabled);
    let mut info = vk::InstanceCreateInfo::default().application_info(&application);
    if validation != Validation::Off {
        info = info.enabled_layer_names(&layers).enabled_extension_names(&extensions);
    }
    if validation == Validation::Synchronisation {
        info = info.push_next(&mut features);
    }
    // SAFETY: all that `info` points at lives until the end of this function.
    unsafe { entry.create_instance(&info, None) }.map_err(|result| match result {
        vk::Result::ERROR_INCOMPATIBLE_DRIVER => VulkanError::NoDriver,
        _ => VulkanError::call("make a Vulkan instance", result),
    })
}

impl Messenger {
    fn new(shared: &Shared) -> Result<Self, VulkanError> {
        type Severity = vk::DebugUtilsMessageSeverityFlagsEXT;
        let functions = ext::debug_utils::Instance::new(&shared.entry, &shared.handle);
        let messages = Box::new(Messages::default());
        let info = vk::DebugUtilsMessengerCreateInfoEXT::default()
            .message_severity(Severity::WARNING | Severity::ERROR)
            .message_type(vk::DebugUtilsMessageTypeFlagsEXT::VALIDATION)
            .pfn_user_callback(Some(note))
            .user_data((&raw const *messages).cast_mut().cast());
        // SAFETY: the extension is enabled, and the box outlives the messenger.
        let handle = unsafe { functions.create_debug_utils_messenger(&info, None) }
            .map_err(VulkanError::during("watch the validation layer"))?;
        Ok(Self { functions, handle, messages })
    }
}

/// Keeps a message of the layer. Called by it from any thread, inside Vulkan's functions.
unsafe extern "system" fn note(
    _severity: vk::DebugUtilsMessageSeverityFlagsEXT,
    _types: vk::DebugUtilsMessageTypeFlagsEXT,
    data: *const vk::DebugUtilsMessengerCallbackDataEXT<'_>,
    user: *mut c_void,
) -> vk::Bool32 {
    // SAFETY: the layer passes valid data for the time of the call, or null.
    let data = unsafe { data.as_ref() };
    // SAFETY: `user` is the address of the messenger's messages, which outlive it.
    let messages = unsafe { user.cast::<Messages>().as_ref() };
    if let (Some(data), Some(messages)) = (data, messages)
        && !data.p_message.is_null()
    {
        // SAFETY: a message is a string that ends with a zero.
        let text = unsafe { CStr::from_ptr(data.p_message) };
        let mut messages = messages.lock().unwrap_or_else(PoisonError::into_inner);
        messages.push(text.to_string_lossy().into_owned());
    }
    vk::FALSE
}
