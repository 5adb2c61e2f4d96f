//! UPDATE_FRAMEWORK.

use meshos_proto::mesos::v1::{self as pb, scheduler};
use meshos_types::{FrameworkId, RoleName};

use super::{
    Asked,
    rules::{check_info, check_listed, check_same, check_suppressed},
};
use crate::core::{CallError, Core, constraints::Constraints, framework::roles_of, offers::OfferNo};

impl Core {
    /// Offers for all roles that are not suppressed.
    pub(super) fn activate(&mut self, id: &FrameworkId, asked: Asked) {
        let Some(framework) = self.frameworks.get_mut(id) else { return };
        framework.suppressed = asked.suppressed.iter().map(|role| RoleName::new(role.as_str())).collect();
        framework.constraints = asked.constraints;
        framework.asked_constraints = asked.told;
        let active: Vec<_> = framework.roles.difference(&framework.suppressed).cloned().collect();
        for role in active {
            self.set_active(&role, id, true);
        }
        self.touch_framework(id);
        self.dirty.frameworks.insert(id.clone());
    }

    /// UPDATE_FRAMEWORK: as subscribing again, on the same stream.
    pub(crate) fn update_framework(
        &mut self,
        id: &FrameworkId,
        update: scheduler::call::UpdateFramework,
    ) -> Result<(), CallError> {
        let Some(framework) = self.frameworks.get(id) else {
            return Err(CallError::invalid("Framework cannot be found"));
        };
        let info = update.framework_info;
        let invalid = |what: &'static str| {
            move |fault: String| CallError::Invalid(format!("{what} is not valid: {fault}"))
        };
        check_info(&info).map_err(invalid("Supplied FrameworkInfo"))?;
        check_same(&framework.info, &info).map_err(invalid("FrameworkInfo update"))?;
        let roles = roles_of(&info);
        check_listed(&roles, &self.config.roles).map_err(invalid("Supplied FrameworkInfo"))?;
        let constraints = check_suppressed(&roles, &update.suppressed_roles)
            .and_then(|()| Constraints::compile(update.offer_constraints.as_ref(), &roles))
            .map_err(invalid("'UpdateFramework' call"))?;
        let outside = |offer: &&OfferNo| {
            self.offers.get(*offer).is_some_and(|offer| !roles.contains(&offer.place.role))
        };
        for offer in framework.offers.iter().filter(outside).cloned().collect::<Vec<_>>() {
            self.rescind(&offer);
        }
        self.deactivate(id);
        if let Some(framework) = self.frameworks.get_mut(id) {
            framework.info = pb::FrameworkInfo { id: Some(id.to_proto()), ..info };
            framework.roles = roles;
        }
        let told = update.offer_constraints.map(Box::new);
        self.activate(id, Asked { constraints, told, suppressed: update.suppressed_roles });
        self.persist(id);
        Ok(())
    }
}
