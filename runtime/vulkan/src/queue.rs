//! Submitting recorded commands, and waiting for their end.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ash::vk;

use crate::{Commands, Device, VulkanError};

/// A submission, in the order in which they run and end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub(crate) u64);

pub(crate) struct QueueState {
    pub(crate) handle: vk::Queue,
    /// Value of the timeline after the last submission.
    pub(crate) last: u64,
}

impl Device {
    /// Runs recorded commands in this order, after all that was submitted before. Returns at once.
    /// Writes of the host until now are seen by them. The same commands may stand here several
    /// times, and may be submitted again before they ended.
    ///
    /// # Errors
    /// No commands, commands of another device; what the driver refuses.
    pub fn submit(&self, commands: &[&Commands]) -> Result<Ticket, VulkanError> {
        let foreign = |commands: &&Commands| !std::ptr::eq(&raw const **commands.device(), self);
        if commands.is_empty() || commands.iter().any(foreign) {
            let (what, allowed) = ("a submission".into(), "its own commands, at least one".into());
            return Err(VulkanError::Limit { what, found: commands.len() as u64, allowed });
        }
        let buffers: Vec<_> = commands
            .iter()
            .map(|it| vk::CommandBufferSubmitInfo::default().command_buffer(it.handle()))
            .collect();
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let ticket = queue.last + 1;
        let signals = [vk::SemaphoreSubmitInfo::default()
            .semaphore(self.timeline)
            .value(ticket)
            .stage_mask(vk::PipelineStageFlags2::ALL_COMMANDS)];
        let submit = vk::SubmitInfo2::default()
            .command_buffer_infos(&buffers)
            .signal_semaphore_infos(&signals);
        // SAFETY: the lock makes this the only use of the queue; the commands are finished, of this
        // device, and wait in their drop for the ticket that they get below.
        unsafe { self.handle.queue_submit2(queue.handle, &[submit], vk::Fence::null()) }
            .map_err(VulkanError::during("submit commands"))?;
        queue.last = ticket;
        for commands in commands {
            commands.last.store(ticket, Ordering::Release);
        }
        Ok(Ticket(ticket))
    }

    /// Waits for the end of a submission and all before it. What the commands wrote and made
    /// visible with [`crate::Recorder::host_barrier`] can then be read.
    ///
    /// # Errors
    /// [`VulkanError::Timeout`], [`VulkanError::Lost`].
    pub fn wait(&self, ticket: Ticket, timeout: Duration) -> Result<(), VulkanError> {
        let (semaphores, values) = ([self.timeline], [ticket.0]);
        let info = vk::SemaphoreWaitInfo::default().semaphores(&semaphores).values(&values);
        let limit = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
        // SAFETY: the semaphore is this device's timeline.
        unsafe { self.handle.wait_semaphores(&info, limit) }.map_err(|result| match result {
            vk::Result::TIMEOUT => VulkanError::Timeout {
                operation: "submitted work".into(),
                seconds: timeout.as_secs(),
            },
            _ => VulkanError::call("wait for submitted work", result),
        })
    }
}
