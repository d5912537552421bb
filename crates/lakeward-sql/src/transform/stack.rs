//! Room for recursion.

/// The stack, in bytes. Only what is used of it becomes memory.
const STACK: usize = 256 << 20;

/// Runs `work` where it may descend deep: the parser's trees may be as deep as
/// the text is long until their depth is checked, and DataFusion's planner
/// takes some kilobytes for each level. `None` if there is no thread to be had.
pub(super) fn deep<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    std::thread::scope(|scope| {
        let worker = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work).ok()?;
        worker.join().ok()
    })
}
