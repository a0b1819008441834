//! What the benchmarks share: a hub (or nginx) as a child process, a load
//! generator on kept-alive connections, and the processor time that the kernel
//! charged to a process. Every figure is given beside a baseline measured in
//! the same run, because the machines are noisy: read the ratios.

pub mod baseline;
pub mod child;
pub mod gateway;
pub mod hub;
pub mod load;
pub mod memory;
pub mod report;
pub mod storage;
