//! The program's commands.
pub mod crds;
