//! What goes on beside the connections.

use super::client::Closing;
use super::config::OutputLimit;
use super::state::{Ending, Rate, Server};
use crate::resp::write_command;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::future::poll_fn;
use core::task::Poll;
use core::time::Duration;
use libos_core::task::Executor;

/// How often the server looks after itself.
const TICK: Duration = Duration::from_millis(100);
/// Keys whose time is over that are removed at once.
const EXPIRED_AT_ONCE: usize = 256;

/// Lets all tasks that are ready go first.
async fn others() {
    let mut asked = false;
    poll_fn(|context| {
        if core::mem::replace(&mut asked, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Writes the log: all that was recorded in one turn of the loop becomes durable by one commit. Ends with the
/// server.
pub async fn keep_log(server: Rc<RefCell<Server>>) {
    loop {
        let goes_on = poll_fn(|context| {
            let server = &mut *server.borrow_mut();
            if server.ending().is_some() {
                return Poll::Ready(false);
            }
            if server.log_is_due() {
                return Poll::Ready(true);
            }
            server.keeper_of_log = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
        if !goes_on {
            return;
        }
        // Who is ready now may have something to be made durable as well.
        others().await;
        server.borrow_mut().keep_log();
    }
}

/// Looks after keys whose time is over, clients that are silent or slow, and the log. `is_asked_to_end` says
/// whether the machine is to end. Ends with the server.
pub async fn look_after(server: Rc<RefCell<Server>>, executor: Executor, is_asked_to_end: fn() -> bool) {
    loop {
        executor.sleep(TICK).await;
        // As long as there are more, but not before others.
        while server.borrow_mut().expire() {
            others().await;
        }
        let server = &mut *server.borrow_mut();
        if is_asked_to_end() {
            server.end(Ending::Saved);
        }
        if server.ending().is_some() {
            return;
        }
        server.look_after_clients();
        server.look_after_log();
        server.measure();
    }
}

/// Ends with the server.
pub async fn ended(server: Rc<RefCell<Server>>, executor: Executor) -> Ending {
    loop {
        if let Some(ending) = server.borrow().ending() {
            return ending.clone();
        }
        executor.sleep(TICK / 5).await;
    }
}

impl Server {
    /// Removes keys whose time is over. Whether there are more.
    pub fn expire(&mut self) -> bool {
        (self.now_ms, self.now_ns) = (self.clock.now_ms(), self.clock.now_ns());
        let mut removed: Vec<(u8, Vec<u8>)> = Vec::new();
        let logging = self.effects.logging;
        let count = self.store.expire(self.now_ms, EXPIRED_AT_ONCE, |database, key| {
            if logging {
                let mut command = Vec::new();
                write_command(&mut command, [&b"DEL"[..], key].into_iter());
                removed.push((database, command));
            }
        });
        removed.iter().for_each(|(database, command)| self.record(*database, command));
        // The policy wants to know even without a log.
        self.follow(0, false);
        count == EXPIRED_AT_ONCE
    }

    fn look_after_clients(&mut self) {
        let now_ns = self.now_ns;
        let idle_ns = self.config.timeout.saturating_mul(1_000_000_000);
        let (normal, pubsub) = (self.config.normal_limit, self.config.pubsub_limit);
        for client in self.clients.iter_mut() {
            let limit = if client.has_subscriptions() { pubsub } else { normal };
            let is_idle = idle_ns > 0
                && !client.has_subscriptions()
                && client.blocked.is_none()
                && now_ns.saturating_sub(client.last_ns) > idle_ns;
            let waits = client.out.len();
            let OutputLimit { hard, soft, seconds } = limit;
            if soft == 0 || waits < soft {
                client.too_much_since_ns = None;
            }
            let since_ns = *client.too_much_since_ns.get_or_insert(now_ns);
            let too_slow =
                soft > 0 && waits >= soft && now_ns - since_ns > seconds.saturating_mul(1_000_000_000);
            if is_idle || too_slow || hard > 0 && waits > hard {
                client.closing = Closing::Now;
                client.wake();
            }
        }
    }

    fn measure(&mut self) {
        let passed_ns = self.now_ns.saturating_sub(self.rate.at_ns);
        if passed_ns >= 1_000_000_000 {
            let commands = self.counts.commands.saturating_sub(self.rate.commands);
            let per_second = (u128::from(commands) * 1_000_000_000 / u128::from(passed_ns)) as u64;
            self.rate = Rate { per_second, at_ns: self.now_ns, commands: self.counts.commands };
        }
    }
}
