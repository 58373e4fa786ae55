//! Commands: each a structure that becomes a submission queue entry (`sqe`) for the host and is read from one (`of`) by a
//! controller, so that no bit is written down twice.

pub mod admin;
pub mod nvm;
mod queues;

pub use queues::{
    CreateCompletionQueue, CreateSubmissionQueue, Priority, delete_completion_queue,
    delete_submission_queue, queue_id,
};

/// Opcodes of admin commands (Base 5, figure "Opcodes for Admin Commands").
pub mod admin_opcode {
    /// Delete I/O Submission Queue (Base 5.2.4).
    pub const DELETE_SUBMISSION_QUEUE: u8 = 0x00;
    /// Create I/O Submission Queue (Base 5.2.2).
    pub const CREATE_SUBMISSION_QUEUE: u8 = 0x01;
    /// Get Log Page (Base 5.1.12).
    pub const GET_LOG_PAGE: u8 = 0x02;
    /// Delete I/O Completion Queue (Base 5.2.3).
    pub const DELETE_COMPLETION_QUEUE: u8 = 0x04;
    /// Create I/O Completion Queue (Base 5.2.1).
    pub const CREATE_COMPLETION_QUEUE: u8 = 0x05;
    /// Identify (Base 5.1.13).
    pub const IDENTIFY: u8 = 0x06;
    /// Abort (Base 5.1.1).
    pub const ABORT: u8 = 0x08;
    /// Set Features (Base 5.1.25).
    pub const SET_FEATURES: u8 = 0x09;
    /// Get Features (Base 5.1.11).
    pub const GET_FEATURES: u8 = 0x0a;
    /// Asynchronous Event Request (Base 5.1.2).
    pub const ASYNC_EVENT_REQUEST: u8 = 0x0c;
}

/// Opcodes of I/O commands (NVM, figure "Opcodes for NVM Commands"; Base 7.2 for Flush).
pub mod nvm_opcode {
    /// Flush (Base 7.2).
    pub const FLUSH: u8 = 0x00;
    /// Write (NVM 3.2.6).
    pub const WRITE: u8 = 0x01;
    /// Read (NVM 3.2.4).
    pub const READ: u8 = 0x02;
    /// Write Zeroes (NVM 3.2.8).
    pub const WRITE_ZEROES: u8 = 0x08;
    /// Dataset Management (NVM 3.2.3).
    pub const DATASET_MANAGEMENT: u8 = 0x09;
}
