//! How the channels of a rule are delivered, from what the settings say.

use std::num::NonZeroU32;

use super::{
    schema::{Carrier, Rule},
    values::Count,
};
use crate::auth::{Delivery, Keyframes};

/// Fills in a rule's delivery.
///
/// # Errors
/// The key that makes no sense, with the reason.
pub(super) fn fill(rule: &Rule, delivery: &mut Delivery) -> Result<(), (&'static str, String)> {
    delivery.on_lag = rule.on_lag;
    delivery.priority = rule.priority;
    delivery.max_age = rule.max_age_milliseconds.map(Count::milliseconds);
    let messages = rule.keyframe_messages;
    let interval = rule.keyframe_interval_milliseconds;
    if rule.delivery == Carrier::Stream {
        let given = [
            ("keyframe_messages", messages),
            ("keyframe_interval_milliseconds", interval),
        ];
        return match given.into_iter().find(|(_, value)| value.is_some()) {
            Some((key, _)) => Err((key, "it needs `delivery = \"datagram\"`".to_owned())),
            None => Ok(()),
        };
    }
    let mut keyframes = Keyframes::default();
    if let Some(Count(messages)) = messages {
        let small = u32::try_from(messages).ok().and_then(NonZeroU32::new);
        let Some(messages) = small else {
            let what = format!("{messages} is above {}, the most", u32::MAX);
            return Err(("keyframe_messages", what));
        };
        keyframes = keyframes.messages(messages);
    }
    if let Some(interval) = interval {
        keyframes = keyframes.interval(interval.milliseconds());
    }
    delivery.datagrams = Some(keyframes);
    Ok(())
}
