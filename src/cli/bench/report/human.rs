//! A report for people.

use std::fmt::Write;

use super::{Latency, Report, Server};
use crate::cli::output::{Colours, ERROR, FAINT, LABEL, WARNING, grouped};

/// Above this part of the rate that was asked for, it was reached: the rest is the edges of the time that was measured.
const REACHED: f64 = 0.98;
/// Cores of this process above which its own work may show in the latency.
const BUSY: f64 = 0.8;

impl Report {
    /// A line for each figure.
    pub(in crate::cli::bench) fn human(&self, colours: Colours) -> String {
        let mut lines = Lines {
            text: String::new(),
            colours,
        };
        self.load(&mut lines);
        self.figures(&mut lines);
        self.faults(&mut lines);
        self.server.lines(&mut lines);
        if let Some(cores) = self.client_cores {
            let mut line = format!("{cores:.2} cores for all clients");
            let machine =
                std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64);
            if cores > BUSY * machine {
                line += &lines.warning("  it was too busy: measure from another machine");
            }
            lines.line("this process", &line);
        }
        if self.interrupted {
            let line = format!(
                "after {:.1} of {} s",
                self.seconds, self.load.duration_seconds
            );
            lines.line("interrupted", &colours.paint(WARNING, &line));
        }
        if self.void {
            let line = format!("\nVOID: {}", self.why());
            lines.text += &colours.paint(ERROR, &line);
        }
        lines.text.trim_end().to_owned()
    }

    fn load(&self, lines: &mut Lines) {
        let load = &self.load;
        let pace = match (load.rate, load.window) {
            (Some(rate), _) => format!("{rate} publications/s by a timetable (open loop)"),
            (None, window) => format!(
                "as fast as everybody keeps up, {} publications on their way a publisher (closed loop)",
                window.unwrap_or_default()
            ),
        };
        lines.line(
            "load",
            &format!(
                "{pace}, {} bytes each, for {} s",
                load.size, load.duration_seconds
            ),
        );
        let connections = format!(
            "{} over {} in {:.2} s, {} streams",
            grouped((load.clients + load.publishers) as u64),
            load.transport,
            self.connect_seconds,
            grouped((load.clients * load.subscriptions) as u64)
        );
        lines.line("connections", &connections);
    }

    fn figures(&self, lines: &mut Lines) {
        let mut published = match self.published.per_second {
            Some(rate) => format!("{}/s", grouped(rate.round() as u64)),
            None => "none".to_owned(),
        };
        if let (Some(asked), got) = (self.load.rate, self.published.per_second.unwrap_or(0.0))
            && got < asked * REACHED
            && !self.interrupted
        {
            published += &lines.warning(&format!(
                "  the rate was not reached: {asked}/s was asked for"
            ));
        }
        if self.published.unsent > 0 {
            let unsent = grouped(self.published.unsent);
            published += &lines.warning(&format!(
                "  {unsent} were due and not sent: this machine could not keep up"
            ));
        }
        lines.line("published", &published);
        let deliveries = self.deliveries.per_second.map_or_else(
            || "none".to_owned(),
            |rate| {
                format!(
                    "{}/s, {} in {:.1} s",
                    grouped(rate.round() as u64),
                    grouped(self.deliveries.measured),
                    self.seconds
                )
            },
        );
        lines.line("deliveries", &deliveries);
        match &self.latency {
            Some(latency) => {
                lines.line("latency", &latency.line());
                let from = match (latency.from, &self.send_delay) {
                    ("timetable", Some(delay)) => format!(
                        "from the time each publication was due; it was sent {} later (p99 {})",
                        time(delay.p50_us),
                        time(delay.p99_us)
                    ),
                    _ => "from the send: the load waits for the server, so a stall shows once"
                        .to_owned(),
                };
                lines.line("", &lines.colours.paint(FAINT, &from));
            }
            None => lines.line(
                "latency",
                "none: nothing was delivered in the time that was measured",
            ),
        }
    }

    fn faults(&self, lines: &mut Lines) {
        let faults = &self.faults;
        let mut line = format!(
            "{} gaps, {} duplicates, {} out of order",
            grouped(faults.gaps),
            grouped(faults.duplicates),
            grouped(faults.disorder)
        );
        for (count, what) in [
            (faults.lagged, "lagged"),
            (faults.foreign, "of somebody else"),
            (faults.breaks, "broken connections"),
            (faults.lost.len() as u64, "lost connections"),
            (self.published.refused, "refused"),
        ] {
            if count > 0 {
                let _ = write!(line, ", {} {what}", grouped(count));
            }
        }
        let all = format!(
            "  {} of {} deliveries came",
            grouped(self.deliveries.total),
            grouped(self.deliveries.expected)
        );
        lines.line("faults", &(line + &lines.colours.paint(FAINT, &all)));
    }
}

impl Latency {
    fn line(&self) -> String {
        let [p50, p90, p99, p99_9, max] = [
            self.p50_us,
            self.p90_us,
            self.p99_us,
            self.p99_9_us,
            self.max_us,
        ]
        .map(time);
        format!("p50 {p50}  p90 {p90}  p99 {p99}  p99.9 {p99_9}  max {max}")
    }
}

impl Server {
    fn lines(&self, lines: &mut Lines) {
        if let Some(why) = &self.absent {
            lines.line("server CPU", &format!("not known: {why}"));
            lines.line("server memory", "not known, for the same reason");
            return;
        }
        let cpu = match (self.cpu_us_per_delivery, self.cores) {
            (Some(each), Some(cores)) => format!("{each:.2} µs per delivery, {cores:.2} cores"),
            _ => "not known: nothing was delivered".to_owned(),
        };
        lines.line("server CPU", &cpu);
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let memory = match (
            self.memory_before,
            self.memory_after,
            self.memory_per_connection,
        ) {
            (Some(before), Some(after), Some(each)) => format!(
                "{:.1} KiB per connection: {:.1} MiB before, {:.1} MiB with all of them",
                each as f64 / 1024.0,
                mib(before),
                mib(after)
            ),
            (Some(before), ..) => format!(
                "{:.1} MiB, which hardly grew: it uses what earlier clients left; start it anew to measure a connection",
                mib(before)
            ),
            _ => "not known: /proc does not tell".to_owned(),
        };
        lines.line("server memory", &memory);
    }
}

struct Lines {
    text: String,
    colours: Colours,
}

impl Lines {
    fn line(&mut self, name: &str, value: &str) {
        let name = self.colours.paint(LABEL, &format!("{name:<13}"));
        let _ = writeln!(self.text, "  {name}  {value}");
    }

    fn warning(&self, text: &str) -> String {
        self.colours.paint(WARNING, text)
    }
}

/// Microseconds in a unit that reads well, with three digits.
pub(in crate::cli::bench) fn time(us: f64) -> String {
    let (number, unit) = match us {
        us if us < 1000.0 => (us, "µs"),
        us if us < 1_000_000.0 => (us / 1000.0, "ms"),
        us => (us / 1_000_000.0, "s"),
    };
    let digits = match number {
        number if number < 10.0 => 2,
        number if number < 100.0 => 1,
        _ => 0,
    };
    format!("{number:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits_and_a_unit() {
        for (us, text) in [
            (0.5, "0.50 µs"),
            (12.34, "12.3 µs"),
            (999.0, "999 µs"),
            (1234.0, "1.23 ms"),
            (45_678.0, "45.7 ms"),
            (12_345_678.0, "12.3 s"),
        ] {
            assert_eq!(time(us), text);
        }
    }
}
