//! Commands, recorded once and submitted as often as one likes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ash::vk;
use onebit_plan::gpu::binding;

use crate::{Buffer, Device, Pipeline, Ticket, VulkanError, Window};

/// Recorded commands. Dropping them waits until their submissions ended.
pub struct Commands {
    parts: Parts,
    /// Ticket of the last submission; 0 before the first.
    pub(crate) last: AtomicU64,
}

/// Commands while they are recorded.
pub struct Recorder {
    parts: Parts,
    name: String,
    timestamps: u32,
    /// Sets left in the last pool of descriptors.
    sets: u32,
}

/// A point in time, by its place among the commands' timestamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamp(u32);

/// What the commands are made of and keep alive.
struct Parts {
    device: Arc<Device>,
    pool: vk::CommandPool,
    buffer: vk::CommandBuffer,
    queries: vk::QueryPool,
    query_count: u32,
    descriptors: Vec<vk::DescriptorPool>,
    pipelines: Vec<Arc<Pipeline>>,
    buffers: Vec<Arc<Buffer>>,
}

/// Descriptor sets of a pool.
const POOL_SETS: u32 = 256;
/// What shaders and copies do to memory.
const SHADER: (vk::PipelineStageFlags2, vk::AccessFlags2, vk::AccessFlags2) = (
    vk::PipelineStageFlags2::COMPUTE_SHADER,
    vk::AccessFlags2::SHADER_STORAGE_READ,
    vk::AccessFlags2::SHADER_STORAGE_WRITE,
);
const COPY: (vk::PipelineStageFlags2, vk::AccessFlags2, vk::AccessFlags2) = (
    vk::PipelineStageFlags2::TRANSFER,
    vk::AccessFlags2::TRANSFER_READ,
    vk::AccessFlags2::TRANSFER_WRITE,
);

impl Recorder {
    /// Begins to record, with room for so many timestamps. The name is for messages.
    ///
    /// # Errors
    /// Timestamps on a device that has none; what the driver refuses.
    pub fn new(device: &Arc<Device>, name: &str, timestamps: u32) -> Result<Self, VulkanError> {
        let failed = |result| VulkanError::call(format!("record {name}"), result);
        let info = vk::CommandPoolCreateInfo::default().queue_family_index(device.queue_family);
        // SAFETY: the family is the one that the device was opened with.
        let pool = unsafe { device.handle.create_command_pool(&info, None) }.map_err(failed)?;
        // From here on, dropping the value frees what was made.
        let mut parts = Parts {
            device: Arc::clone(device),
            pool,
            buffer: vk::CommandBuffer::null(),
            queries: vk::QueryPool::null(),
            query_count: timestamps,
            descriptors: Vec::new(),
            pipelines: Vec::new(),
            buffers: Vec::new(),
        };
        let info = vk::CommandBufferAllocateInfo::default()
            .command_pool(pool)
            .level(vk::CommandBufferLevel::PRIMARY)
            .command_buffer_count(1);
        // SAFETY: the pool is new and this thread's.
        let buffers = unsafe { device.handle.allocate_command_buffers(&info) }.map_err(failed)?;
        parts.buffer = buffers.first().copied().unwrap_or_default();
        device.name(parts.buffer, name);
        let info = vk::CommandBufferBeginInfo::default()
            .flags(vk::CommandBufferUsageFlags::SIMULTANEOUS_USE);
        // SAFETY: the buffer is new.
        unsafe { device.handle.begin_command_buffer(parts.buffer, &info) }.map_err(failed)?;
        if timestamps > 0 {
            parts.make_queries(timestamps)?;
        }
        Ok(Self { parts, name: name.into(), timestamps: 0, sets: 0 })
    }

    /// Runs a pipeline over `groups` workgroups, with a window for each of its bindings.
    ///
    /// # Errors
    /// [`VulkanError::Limit`] for what does not fit the pipeline or the device.
    pub fn dispatch(
        &mut self,
        pipeline: &Arc<Pipeline>,
        windows: &[Window],
        immediates: &[u32],
        groups: [u32; 3],
    ) -> Result<(), VulkanError> {
        self.check_dispatch(pipeline, windows, immediates, groups)?;
        let set = self.descriptor_set(pipeline)?;
        self.point(set, pipeline, windows);
        let (device, buffer) = (Arc::clone(&self.parts.device), self.parts.buffer);
        let (point, layout) = (vk::PipelineBindPoint::COMPUTE, pipeline.layout());
        // SAFETY: the buffer records; the pipeline is this device's and kept below.
        unsafe { device.handle.cmd_bind_pipeline(buffer, point, pipeline.handle()) };
        if !windows.is_empty() {
            // SAFETY: as above; the set was made for the pipeline's layout and is not changed again.
            unsafe {
                device.handle.cmd_bind_descriptor_sets(buffer, point, layout, 0, &[set], &[])
            };
        }
        if !immediates.is_empty() {
            let bytes: Vec<u8> = immediates.iter().flat_map(|word| word.to_ne_bytes()).collect();
            let stage = vk::ShaderStageFlags::COMPUTE;
            // SAFETY: the bytes are as many as the layout has.
            unsafe { device.handle.cmd_push_constants(buffer, layout, stage, 0, &bytes) };
        }
        let [x, y, z] = groups;
        // SAFETY: everything that the pipeline uses is bound, the counts are within the limits.
        unsafe { device.handle.cmd_dispatch(buffer, x, y, z) };
        self.parts.pipelines.push(Arc::clone(pipeline));
        self.keep(windows);
        Ok(())
    }

    /// Lets all dispatches before end, and shows what they wrote to those that follow. Dispatches
    /// of earlier submissions count as before.
    pub fn barrier(&mut self) {
        self.fence(&[SHADER], &[SHADER]);
    }

    /// As [`Recorder::barrier`], for copies and fills as well.
    pub fn copy_barrier(&mut self) {
        self.fence(&[SHADER, COPY], &[SHADER, COPY]);
    }

    /// Shows what was written before to the host, once the commands ended.
    pub fn host_barrier(&mut self) {
        let host =
            (vk::PipelineStageFlags2::HOST, vk::AccessFlags2::HOST_READ, vk::AccessFlags2::empty());
        self.fence(&[SHADER, COPY], &[host]);
    }

    /// Copies bytes; both windows are of one length.
    ///
    /// # Errors
    /// [`VulkanError::Limit`] for windows of different lengths or outside their buffers.
    pub fn copy(&mut self, from: &Window, to: &Window) -> Result<(), VulkanError> {
        self.check_window("a copy's source", from, u64::MAX, 1)?;
        self.check_window("a copy's target", to, from.length, 1)?;
        self.check_window("a copy's source", from, to.length, 1)?;
        let regions = [vk::BufferCopy::default()
            .src_offset(from.offset)
            .dst_offset(to.offset)
            .size(from.length)];
        let (source, target) = (from.buffer.handle(), to.buffer.handle());
        let (device, buffer) = (&self.parts.device.handle, self.parts.buffer);
        // SAFETY: the buffer records; both windows are inside their buffers, which are kept below.
        unsafe { device.cmd_copy_buffer(buffer, source, target, &regions) };
        self.keep(&[from.clone(), to.clone()]);
        Ok(())
    }

    /// Sets all bytes of a window to zero.
    ///
    /// # Errors
    /// [`VulkanError::Limit`] for a window outside its buffer or not of whole words.
    pub fn clear(&mut self, window: &Window) -> Result<(), VulkanError> {
        self.check_window("a fill", window, u64::MAX, 4)?;
        let (device, buffer) = (&self.parts.device.handle, self.parts.buffer);
        let target = window.buffer.handle();
        // SAFETY: the buffer records; the window is inside its buffer, which is kept below.
        unsafe { device.cmd_fill_buffer(buffer, target, window.offset, window.length, 0) };
        self.keep(std::slice::from_ref(window));
        Ok(())
    }

    /// Notes the time at which everything before ended.
    ///
    /// # Errors
    /// More timestamps than [`Recorder::new`] was asked for.
    pub fn timestamp(&mut self) -> Result<Timestamp, VulkanError> {
        let (index, most) = (self.timestamps, self.parts.query_count);
        if index >= most {
            let what = format!("the timestamps of {}", self.name);
            let found = u64::from(index) + 1;
            return Err(VulkanError::Limit { what, found, allowed: format!("0..={most}") });
        }
        let stage = vk::PipelineStageFlags2::ALL_COMMANDS;
        let (device, parts) = (&self.parts.device.handle, &self.parts);
        // SAFETY: the buffer records; the query was reset at its beginning and is written once.
        unsafe { device.cmd_write_timestamp2(parts.buffer, stage, parts.queries, index) };
        self.timestamps += 1;
        Ok(Timestamp(index))
    }

    /// Ends the recording.
    ///
    /// # Errors
    /// What the driver refuses.
    pub fn finish(mut self) -> Result<Commands, VulkanError> {
        // SAFETY: the buffer records.
        unsafe { self.parts.device.handle.end_command_buffer(self.parts.buffer) }
            .map_err(VulkanError::during(format!("record {}", self.name)))?;
        self.parts.query_count = self.timestamps;
        Ok(Commands { parts: self.parts, last: AtomicU64::new(0) })
    }

    fn check_dispatch(
        &self,
        pipeline: &Arc<Pipeline>,
        windows: &[Window],
        immediates: &[u32],
        groups: [u32; 3],
    ) -> Result<(), VulkanError> {
        let limits = &self.parts.device.info().limits;
        let own = u64::from(Arc::ptr_eq(pipeline.device(), &self.parts.device));
        self.equal("pipelines of the device", own, 1)?;
        let bindings = pipeline.bindings().len() as u64;
        self.equal("windows of a dispatch", windows.len() as u64, bindings)?;
        let immediate_bytes = 4 * immediates.len() as u64;
        self.equal("bytes of immediates", immediate_bytes, pipeline.immediates().into())?;
        for (found, most) in groups.into_iter().zip(limits.groups) {
            if !(1..=most).contains(&found) {
                let what = format!("the workgroups of a dispatch of {}", self.name);
                let allowed = format!("1..={most}");
                return Err(VulkanError::Limit { what, found: found.into(), allowed });
            }
        }
        for window in windows {
            let (range, align) = (limits.storage_range, limits.storage_align.max(1));
            self.check_window("a dispatch's window", window, range, 4)?;
            self.equal("offset past an alignment", window.offset % align, 0)?;
        }
        Ok(())
    }

    fn equal(&self, what: &str, found: u64, expected: u64) -> Result<(), VulkanError> {
        if found == expected {
            return Ok(());
        }
        let what = format!("{what} of {}", self.name);
        Err(VulkanError::Limit { what, found, allowed: expected.to_string() })
    }

    /// Whether a window is inside its buffer, of this device, not empty and not too long.
    fn check_window(
        &self,
        what: &str,
        window: &Window,
        longest: u64,
        align: u64,
    ) -> Result<(), VulkanError> {
        let most = longest.min(window.buffer.bytes().saturating_sub(window.offset));
        let own = Arc::ptr_eq(window.buffer.device(), &self.parts.device);
        let aligned = window.offset.is_multiple_of(align) && window.length.is_multiple_of(align);
        if own && aligned && (1..=most).contains(&window.length) {
            return Ok(());
        }
        Err(VulkanError::Limit {
            what: format!("the length from byte {} of {what} of {}", window.offset, self.name),
            found: window.length,
            allowed: format!("1..={most}, in multiples of {align}, in a buffer of its own"),
        })
    }

    fn keep(&mut self, windows: &[Window]) {
        for window in windows {
            let known = self.parts.buffers.iter().any(|it| Arc::ptr_eq(it, &window.buffer));
            if !known {
                self.parts.buffers.push(Arc::clone(&window.buffer));
            }
        }
    }

    fn fence(
        &mut self,
        before: &[(vk::PipelineStageFlags2, vk::AccessFlags2, vk::AccessFlags2)],
        after: &[(vk::PipelineStageFlags2, vk::AccessFlags2, vk::AccessFlags2)],
    ) {
        let mut barrier = vk::MemoryBarrier2::default();
        for &(stage, _, writes) in before {
            barrier.src_stage_mask |= stage;
            barrier.src_access_mask |= writes;
        }
        for &(stage, reads, writes) in after {
            barrier.dst_stage_mask |= stage;
            barrier.dst_access_mask |= reads | writes;
        }
        let barriers = [barrier];
        let info = vk::DependencyInfo::default().memory_barriers(&barriers);
        let (device, buffer) = (&self.parts.device.handle, self.parts.buffer);
        // SAFETY: the buffer records, the feature is enabled.
        unsafe { device.cmd_pipeline_barrier2(buffer, &info) };
    }

    /// A set for the pipeline's bindings, in a pool that has room.
    fn descriptor_set(&mut self, pipeline: &Pipeline) -> Result<vk::DescriptorSet, VulkanError> {
        let device = Arc::clone(&self.parts.device);
        let failed = |result| VulkanError::call(format!("record {}", self.name), result);
        if self.sets == 0 {
            let sizes = [vk::DescriptorPoolSize::default()
                .ty(vk::DescriptorType::STORAGE_BUFFER)
                .descriptor_count(POOL_SETS * binding::COUNT)];
            let info =
                vk::DescriptorPoolCreateInfo::default().max_sets(POOL_SETS).pool_sizes(&sizes);
            // SAFETY: the sizes live for the call.
            let pool =
                unsafe { device.handle.create_descriptor_pool(&info, None) }.map_err(failed)?;
            self.parts.descriptors.push(pool);
            self.sets = POOL_SETS;
        }
        let layouts = [pipeline.set_layout()];
        let pool = self.parts.descriptors.last().copied().unwrap_or_default();
        let info =
            vk::DescriptorSetAllocateInfo::default().descriptor_pool(pool).set_layouts(&layouts);
        // SAFETY: the pool is this value's alone; the layout is the pipeline's.
        let sets = unsafe { device.handle.allocate_descriptor_sets(&info) }.map_err(failed)?;
        self.sets -= 1;
        sets.first().copied().ok_or_else(|| failed(vk::Result::ERROR_UNKNOWN))
    }

    /// Lets the set's descriptors lead to the windows.
    fn point(&self, set: vk::DescriptorSet, pipeline: &Pipeline, windows: &[Window]) {
        let infos: Vec<[vk::DescriptorBufferInfo; 1]> = windows
            .iter()
            .map(|window| {
                [vk::DescriptorBufferInfo::default()
                    .buffer(window.buffer.handle())
                    .offset(window.offset)
                    .range(window.length)]
            })
            .collect();
        let writes: Vec<_> = pipeline
            .bindings()
            .iter()
            .zip(&infos)
            .map(|(&number, info)| {
                vk::WriteDescriptorSet::default()
                    .dst_set(set)
                    .dst_binding(number)
                    .descriptor_type(vk::DescriptorType::STORAGE_BUFFER)
                    .buffer_info(info)
            })
            .collect();
        // SAFETY: the set is new and unused; all that `writes` points at lives for the call.
        unsafe { self.parts.device.handle.update_descriptor_sets(&writes, &[]) };
    }
}

impl Commands {
    /// The device that runs them.
    pub fn device(&self) -> &Arc<Device> {
        &self.parts.device
    }

    /// Nanoseconds of all timestamps of the last submission since the first of them. The commands
    /// must have ended.
    ///
    /// # Errors
    /// Commands that did not end; what the driver refuses.
    pub fn times(&self) -> Result<Vec<f64>, VulkanError> {
        let mut ticks = vec![0_u64; self.parts.query_count as usize];
        if ticks.is_empty() {
            return Ok(Vec::new());
        }
        let (device, queries) = (&self.parts.device, self.parts.queries);
        let flags = vk::QueryResultFlags::TYPE_64;
        // SAFETY: the pool has at least so many queries.
        unsafe { device.handle.get_query_pool_results(queries, 0, &mut ticks, flags) }
            .map_err(VulkanError::during("read timestamps"))?;
        let limits = &device.info().limits;
        let mask = u64::MAX >> (64 - limits.tick_bits.clamp(1, 64));
        let first = ticks[0];
        let since = |tick: u64| (tick.wrapping_sub(first) & mask) as f64;
        Ok(ticks.iter().map(|&tick| since(tick) * f64::from(limits.tick)).collect())
    }

    pub(crate) fn handle(&self) -> vk::CommandBuffer {
        self.parts.buffer
    }
}

impl Drop for Commands {
    fn drop(&mut self) {
        let last = self.last.load(Ordering::Acquire);
        if last > 0 {
            // A device that is lost runs nothing any more, and has no other way to fail here.
            let _ = self.parts.device.wait(Ticket(last), Duration::MAX);
        }
    }
}

impl Timestamp {
    /// Its place in [`Commands::times`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl Parts {
    fn make_queries(&mut self, count: u32) -> Result<(), VulkanError> {
        let device = &self.device;
        let limits = &device.info().limits;
        if limits.tick_bits == 0 || limits.tick <= 0.0 {
            let (what, found) = ("the number of timestamps".into(), count.into());
            return Err(VulkanError::Limit { what, found, allowed: "none".into() });
        }
        let info = vk::QueryPoolCreateInfo::default()
            .query_type(vk::QueryType::TIMESTAMP)
            .query_count(count);
        // SAFETY: the queue has timestamps.
        self.queries = unsafe { device.handle.create_query_pool(&info, None) }
            .map_err(VulkanError::during("make timestamps"))?;
        // SAFETY: the buffer records, outside of any use of the queries.
        unsafe { device.handle.cmd_reset_query_pool(self.buffer, self.queries, 0, count) };
        Ok(())
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        let device = &self.device.handle;
        for &pool in &self.descriptors {
            // SAFETY: the commands that use its sets ended.
            unsafe { device.destroy_descriptor_pool(pool, None) };
        }
        // SAFETY: the commands that write them ended. Null is allowed.
        unsafe { device.destroy_query_pool(self.queries, None) };
        // SAFETY: its one buffer of commands ended, or never began.
        unsafe { device.destroy_command_pool(self.pool, None) };
    }
}
