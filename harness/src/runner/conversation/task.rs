//! Steps are written as futures that are polled by hand: no runtime, no waker, no clock of their own. A future that
//! cannot go on looks again when something was fed to the conversation.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use flowproof_reference::machine::Time;

use super::Shared;

pub(super) type Task<T> = Pin<Box<dyn Future<Output = T>>>;

/// Polls a task once.
pub(super) fn poll_once<T>(task: &mut Task<T>) -> Poll<T> {
    task.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

/// Waits until `look` finds something, or `until` has come (then `None`). What arrives at the very moment of the
/// limit still counts.
pub(super) fn wait_for<T>(
    shared: &Rc<RefCell<Shared>>,
    until: Option<Time>,
    mut look: impl FnMut(&mut Shared) -> Option<T>,
) -> impl Future<Output = Option<T>> {
    let shared = Rc::clone(shared);
    std::future::poll_fn(move |_| {
        let mut shared = shared.borrow_mut();
        if let Some(found) = look(&mut shared) {
            shared.progress = true;
            return Poll::Ready(Some(found));
        }
        match until {
            Some(until) if shared.now >= until => {
                shared.progress = true;
                Poll::Ready(None)
            }
            Some(until) => {
                shared.wake = Some(shared.wake.map_or(until, |wake| wake.min(until)));
                Poll::Pending
            }
            None => Poll::Pending,
        }
    })
}

/// Runs several tasks side by side; ends when all have ended well, or one has not.
pub(super) fn all<E>(tasks: Vec<Task<Result<(), E>>>) -> impl Future<Output = Result<(), E>> {
    let mut tasks: Vec<Option<Task<Result<(), E>>>> = tasks.into_iter().map(Some).collect();
    std::future::poll_fn(move |context| {
        let mut waiting = false;
        for slot in &mut tasks {
            let Some(task) = slot else { continue };
            match task.as_mut().poll(context) {
                Poll::Ready(Ok(())) => *slot = None,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => waiting = true,
            }
        }
        if waiting { Poll::Pending } else { Poll::Ready(Ok(())) }
    })
}
