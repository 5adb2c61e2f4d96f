//! Ports of services: those that another program holds are left out, and tried again.

use std::collections::BTreeSet;

use tracing::warn;

use super::Driver;
use crate::haproxy::ports;

impl Driver {
    /// Ports that a worker binds which is started now.
    pub(super) fn ports_to_bind(&self) -> BTreeSet<u16> {
        let services = self.core.services("").filter(|service| service.frontend);
        let ports = services.map(|service| service.port);
        ports.chain(self.own_listeners().into_iter().flatten()).collect()
    }

    /// New ports that another program holds are left out, and tried again later. Whether there are any.
    pub(super) fn block_taken_ports(&mut self) -> bool {
        let everywhere = self.config.args.lb_bind_address.clone();
        let new = self
            .core
            .services("")
            .filter(|service| service.frontend && !self.running.ports.contains(&service.port));
        let taken: Vec<u16> = new
            .filter(|service| {
                let address = service.labels.bind_addr.as_deref().unwrap_or(&everywhere);
                !ports::is_free(address, service.port)
            })
            .map(|service| service.port)
            .collect();
        for port in &taken {
            warn!(port, "service port is held by another program");
            self.core.block(*port, true);
        }
        !taken.is_empty()
    }

    /// Tries again what was not possible: ports that others held, tasks that were good and bad in turns.
    pub(super) async fn retry(&mut self) {
        let address = self.config.args.lb_bind_address.clone();
        let free: Vec<u16> =
            self.core.blocked().iter().copied().filter(|port| ports::is_free(&address, *port)).collect();
        for port in free {
            self.core.block(port, false);
        }
        for (id, app_id) in self.flapping.held() {
            self.put_task(&app_id, &id);
        }
        let changes = self.core.settle();
        if !changes.texts.is_empty() {
            self.publish(changes).await;
        }
        self.retry_listeners();
    }
}
