//! The resources that users write, and their one compiler.
