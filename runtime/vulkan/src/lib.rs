//! The few Vulkan objects that onebit uses, made safe: instance, device, buffers, pipelines and
//! recorded command buffers. It knows bindings and modules of [`onebit_plan::gpu`], and no model.
