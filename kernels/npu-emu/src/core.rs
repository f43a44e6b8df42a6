//! One AIE2P core.
