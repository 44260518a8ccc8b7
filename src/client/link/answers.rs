//! What the server answers, and to whom that goes.

use std::{
    sync::PoisonError,
    time::{Duration, SystemTime},
};

use futures_util::FutureExt;
use tokio::time::sleep;

use super::{CUT, Later, Link, MAX_PAGE, Over, Page, Pending};
use crate::{
    client::{Acknowledgement, ClientError, backoff, registry::Registry},
    wire::{Attendance, Code, History, frame::Frame},
};

impl Link {
    /// What the server sends on the control stream.
    pub(super) fn answer(&mut self, registry: &Registry, frame: Frame) -> Option<Over> {
        let frame = match (&mut self.page, frame) {
            (Some(page), Frame::Publication(publication)) => {
                page.history.publications.push(publication);
                page.due -= 1;
                self.turn_page();
                return None;
            }
            (Some(_), other) => {
                let reason = format!("{} between the publications of a page", other.name());
                return Some(Over::Given(Code::UNEXPECTED_FRAME, reason));
            }
            (None, frame) => frame,
        };
        match frame {
            Frame::HistoryPage(page) => {
                let Some(Pending::History(answer)) = self.pending.remove(&page.request) else {
                    let reason = "a page of history that was not asked for".to_owned();
                    return Some(Over::Given(Code::PROTOCOL_VIOLATION, reason));
                };
                if page.count > MAX_PAGE {
                    let reason = format!("a page of {} publications", page.count);
                    return Some(Over::Given(Code::PROTOCOL_VIOLATION, reason));
                }
                self.page = Some(Page {
                    due: page.count,
                    history: History::new(page.kept, page.complete, Vec::new()),
                    answer,
                });
                self.turn_page();
            }
            Frame::PresencePage(page) => {
                if let Some(Pending::Presence(answer)) = self.pending.remove(&page.request) {
                    let _ = answer.send(Ok(Attendance::new(
                        page.position,
                        page.connections,
                        page.users,
                        page.members,
                        page.complete,
                    )));
                }
            }
            Frame::Subscribed(subscribed) => {
                if let Some(Pending::Subscribe(name)) = self.pending.remove(&subscribed.request) {
                    registry.subscribed(&name, subscribed.subscription, subscribed.position);
                }
            }
            Frame::Published(published) => {
                if let Some(Pending::Publish(answer)) = self.pending.remove(&published.request) {
                    let _ = answer.send(Ok(Acknowledgement {
                        position: published.position,
                        level: published.level,
                        duplicate: false,
                    }));
                }
            }
            Frame::PublishedOnce(published) => {
                if let Some(Pending::Publish(answer)) = self.pending.remove(&published.request) {
                    let _ = answer.send(Ok(Acknowledgement {
                        position: published.position,
                        level: published.level,
                        duplicate: published.duplicate,
                    }));
                }
            }
            Frame::Refreshed(refreshed) => {
                if let Some(Pending::Refresh(token, answer)) =
                    self.pending.remove(&refreshed.request)
                {
                    let mut latest = self
                        .refreshed
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner);
                    *latest = Some(token);
                    drop(latest);
                    let end = refreshed.expires.map(Duration::from_millis);
                    let end = end.and_then(|end| SystemTime::UNIX_EPOCH.checked_add(end));
                    self.expires.send_replace(end);
                    let _ = answer.send(Ok(refreshed.expires));
                }
            }
            Frame::Pong(pong) => match self.pending.remove(&pong.request) {
                Some(Pending::Ping(answer)) => drop(answer.send(Ok(()))),
                Some(_) => self.watch.answered(),
                None => {}
            },
            Frame::Unsubscribed(unsubscribed) => {
                if self.pending.remove(&unsubscribed.request).is_some() {
                    self.unanswered = self.unanswered.saturating_sub(1);
                }
            }
            Frame::Failed(failed) => {
                let (code, reason) = (failed.code, failed.reason);
                match self.pending.remove(&failed.request) {
                    Some(Pending::Publish(answer)) => {
                        let _ = answer.send(Err(ClientError::Request { code, reason }));
                    }
                    Some(Pending::History(answer)) => {
                        let _ = answer.send(Err(ClientError::Request { code, reason }));
                    }
                    Some(Pending::Presence(answer)) => {
                        let _ = answer.send(Err(ClientError::Request { code, reason }));
                    }
                    Some(Pending::Refresh(_, answer)) => {
                        let _ = answer.send(Err(ClientError::Request { code, reason }));
                    }
                    Some(Pending::Ping(answer)) => {
                        let _ = answer.send(Err(ClientError::Request { code, reason }));
                    }
                    // A server that is going away: the subscription is asked for again on the next connection.
                    Some(Pending::Subscribe(_)) if code == Code::GOING_AWAY => {}
                    Some(Pending::Subscribe(name)) => {
                        let again = registry.refused(&name, code, reason);
                        if again {
                            let wait = CUT + backoff::wait(4, rand::random());
                            let later = async move {
                                sleep(wait).await;
                                Later::Ask(name)
                            };
                            self.later.push(later.boxed());
                        }
                    }
                    Some(Pending::Nobody) => self.unanswered = self.unanswered.saturating_sub(1),
                    None => {}
                }
            }
            // The streams say when they end, and the connection with which code.
            Frame::GoAway(_) => {}
            other => {
                let reason = format!("{} is not for a server to send now", other.name());
                return Some(Over::Given(Code::UNEXPECTED_FRAME, reason));
            }
        }
        None
    }
}

impl Link {
    /// Hands over a page that is complete.
    fn turn_page(&mut self) {
        if let Some(page) = self.page.take_if(|page| page.due == 0) {
            let _ = page.answer.send(Ok(page.history));
        }
    }
}
