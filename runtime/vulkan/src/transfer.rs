//! Bytes to and from buffers that the host does not see.

use std::sync::Arc;
use std::time::Duration;

use crate::{Buffer, Device, Place, Recorder, VulkanError, Window};

/// Copies between the host and any buffer: straight where the host sees it, through a buffer of
/// its own where not. For loading and looking, not for steps: it waits for each piece.
pub struct Transfer {
    device: Arc<Device>,
    stage: Option<Arc<Buffer>>,
}

/// Bytes of the buffer between.
const STAGE: u64 = 16 << 20;
/// A copy that takes longer never ends.
const TIMEOUT: Duration = Duration::from_secs(30);

impl Transfer {
    /// Nothing is allocated before it is needed.
    pub fn new(device: &Arc<Device>) -> Self {
        Self { device: Arc::clone(device), stage: None }
    }

    /// Copies bytes into a buffer.
    ///
    /// # Errors
    /// A range outside the buffer; what the driver refuses.
    pub fn write(
        &mut self,
        buffer: &Arc<Buffer>,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), VulkanError> {
        if buffer.is_mapped() {
            return buffer.write(offset, bytes);
        }
        let stage = self.stage()?;
        for (at, piece) in (0..).step_by(STAGE as usize).zip(bytes.chunks(STAGE as usize)) {
            stage.write(0, piece)?;
            let length = piece.len() as u64;
            self.copy(&stage.slice(0, length), &buffer.slice(offset + at, length))?;
        }
        Ok(())
    }

    /// Copies bytes out of a buffer that no running commands write.
    ///
    /// # Errors
    /// As of [`Transfer::write`].
    pub fn read(
        &mut self,
        buffer: &Arc<Buffer>,
        offset: u64,
        bytes: &mut [u8],
    ) -> Result<(), VulkanError> {
        if buffer.is_mapped() {
            return buffer.read(offset, bytes);
        }
        let stage = self.stage()?;
        for (at, piece) in (0..).step_by(STAGE as usize).zip(bytes.chunks_mut(STAGE as usize)) {
            let length = piece.len() as u64;
            self.copy(&buffer.slice(offset + at, length), &stage.slice(0, length))?;
            stage.read(0, piece)?;
        }
        Ok(())
    }

    /// Sets all bytes of a window to zero.
    ///
    /// # Errors
    /// As of [`Recorder::clear`].
    pub fn clear(&mut self, window: &Window) -> Result<(), VulkanError> {
        self.run(|recorder| recorder.clear(window))
    }

    fn copy(&self, from: &Window, to: &Window) -> Result<(), VulkanError> {
        self.run(|recorder| recorder.copy(from, to))
    }

    fn run(
        &self,
        record: impl FnOnce(&mut Recorder) -> Result<(), VulkanError>,
    ) -> Result<(), VulkanError> {
        let mut recorder = Recorder::new(&self.device, "a transfer", 0)?;
        recorder.copy_barrier();
        record(&mut recorder)?;
        recorder.copy_barrier();
        recorder.host_barrier();
        let commands = recorder.finish()?;
        let ticket = self.device.submit(&[&commands])?;
        self.device.wait(ticket, TIMEOUT)
    }

    fn stage(&mut self) -> Result<Arc<Buffer>, VulkanError> {
        if let Some(stage) = &self.stage {
            return Ok(Arc::clone(stage));
        }
        let stage = Buffer::new(&self.device, "transfers", STAGE, Place::Readback)?;
        Ok(Arc::clone(self.stage.insert(stage)))
    }
}
