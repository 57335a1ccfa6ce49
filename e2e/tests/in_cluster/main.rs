//! Countersign installed by its chart on a real node: what people see by kubectl, what controllers
//! and running pods make of it, and what becomes of it when its own pods go.

mod cluster;
mod load;
mod outages;
mod policies;
mod restart;
mod steady;
mod tuf;
mod workloads;
