//! The conversations: friendly ones, where the header must change, and hostile ones, where nothing may.

use super::{Scene, Step};

/// What looks like a response and is none.
const FAKE: &str = "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\n";
const KEEP: &str = "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok";
const CLOSE: &str = "HTTP/1.1 200 OK\r\nConnection: close     \r\nContent-Length: 2\r\n\r\nok";
const BARE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const BARE_CLOSE: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";

/// Writes down one conversation after the other.
struct Writer {
    scene: Scene,
}

fn scene(name: &'static str) -> Writer {
    Writer {
        scene: Scene {
            name,
            before: None,
            after: Vec::new(),
            steps: Vec::new(),
        },
    }
}

impl Writer {
    /// The client asks before the drain.
    fn asks_before(mut self) -> Self {
        self.scene.before = Some(request("GET", self.scene.name));
        self
    }

    /// The client asks while it is asked to leave.
    fn asks(self) -> Self {
        let request = request("GET", self.scene.name);
        self.says(&request)
    }

    /// It sends anything, by one write.
    fn says(mut self, bytes: &[u8]) -> Self {
        self.scene.after.push(bytes.to_vec());
        self
    }

    /// The server reads the next request; the first one it has read already.
    fn reads(mut self) -> Self {
        self.scene.steps.push(Step::Read);
        self
    }

    fn waits(mut self) -> Self {
        self.scene.steps.push(Step::Await);
        self
    }

    /// The server sends what must arrive as it is.
    fn sends(self, text: &str) -> Self {
        self.sends_changed(text, text)
    }

    /// The server sends what must arrive otherwise.
    fn sends_changed(mut self, text: &str, arrives: &str) -> Self {
        self.scene
            .steps
            .push(Step::Write(text.to_owned(), arrives.to_owned()));
        self
    }

    fn done(self) -> Scene {
        self.scene
    }
}

fn request(method: &str, name: &str) -> Vec<u8> {
    format!("{method} /{name} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes()
}

/// A response with so many bytes before its `Connection` header.
fn long(padding: usize, value: &str) -> String {
    let padding = "x".repeat(padding);
    format!("HTTP/1.1 200 OK\r\nX: {padding}\r\nConnection: {value}\r\nContent-Length: 0\r\n\r\n")
}

/// All of them.
pub fn scenes() -> Vec<Scene> {
    [
        friendly(),
        bodies(),
        odd_heads(),
        other_protocols(),
        pipelines(),
    ]
    .concat()
}

/// Where the client must be asked, at the first response there is.
fn friendly() -> Vec<Scene> {
    let inner =
        "HTTP/1.1 304 Not Modified\r\nConnection: keep-alive\r\nContent-Length: 500\r\n\r\n";
    let changed = inner.replace("keep-alive", "close     ");
    let empty = "HTTP/1.1 204 No Content\r\nconnection:KEEP-ALIVE\r\n\r\n";
    let head = "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1000\r\n\r\n";
    let interim = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: keep-alive\r\n\r\n";
    vec![
        scene("never-used").asks().sends_changed(KEEP, CLOSE).done(),
        scene("idle")
            .asks_before()
            .sends(KEEP)
            .asks()
            .reads()
            .sends_changed(KEEP, CLOSE)
            .done(),
        scene("being-answered")
            .asks_before()
            .waits()
            .sends_changed(KEEP, CLOSE)
            .done(),
        scene("without-header")
            .asks_before()
            .sends(BARE)
            .asks()
            .reads()
            .sends_changed(BARE, BARE_CLOSE)
            .done(),
        // Clients that stay all the same are asked again.
        scene("no-bodies")
            .asks()
            .sends_changed(inner, &changed)
            .asks()
            .reads()
            .sends_changed(empty, &empty.replace("KEEP-ALIVE", "close     "))
            .asks()
            .reads()
            .sends_changed(KEEP, CLOSE)
            .done(),
        // The length in the answer to HEAD is taken for a body's: no second request for a while.
        scene("head")
            .says(&request("HEAD", "head"))
            .sends_changed(head, &head.replace("keep-alive", "close     "))
            .asks()
            .reads()
            .sends(KEEP)
            .done(),
        scene("interim")
            .asks()
            .sends(interim)
            .sends("HTTP/1.1 100 Continue\r\n\r\n")
            .sends_changed(KEEP, CLOSE)
            .done(),
        scene("long-head")
            .asks()
            .sends_changed(&long(8000, "keep-alive"), &long(8000, "close     "))
            .done(),
        scene("long-bare-head")
            .asks()
            .sends_changed(
                &long(7900, "keep-alive").replace("Connection: keep-alive\r\n", ""),
                &long(7900, "keep-alive")
                    .replace("Connection: keep-alive\r\n", "")
                    .replacen("\r\n", "\r\nConnection: close\r\n", 1),
            )
            .done(),
    ]
}

/// Bodies with pieces that begin like a response.
fn bodies() -> Vec<Scene> {
    let chunked = "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n";
    let length = FAKE.len() * 2 + 4;
    let counted =
        format!("HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: {length}\r\n\r\n");
    let close = |text: &str| text.replace("keep-alive", "close     ");
    let chunk = format!("{:x}\r\n", FAKE.len());
    vec![
        scene("chunked-when-the-drain-begins")
            .asks_before()
            .sends(chunked)
            .sends("3\r\nabc\r\n")
            .waits()
            .sends(&chunk)
            .sends(FAKE)
            .sends("\r\n")
            .sends(FAKE)
            .sends("0\r\n\r\n")
            .done(),
        scene("counted-when-the-drain-begins")
            .asks_before()
            .sends(&counted)
            .waits()
            .sends(FAKE)
            .sends("abcd")
            .sends(FAKE)
            .done(),
        scene("chunked")
            .asks()
            .sends_changed(chunked, &close(chunked))
            .sends(&chunk)
            .sends(FAKE)
            .sends("\r\n0\r\n\r\n")
            .done(),
        scene("counted")
            .asks()
            .sends_changed(&counted, &close(&counted))
            .sends(FAKE)
            .sends("abcd")
            .sends(FAKE)
            .asks()
            .reads()
            .sends_changed(KEEP, CLOSE)
            .done(),
        scene("counted-with-more-requests-meanwhile")
            .asks()
            .sends_changed(&counted, &close(&counted))
            .asks()
            .waits()
            .sends(FAKE)
            .sends("abcd")
            .reads()
            .sends(FAKE)
            .done(),
        scene("until-the-end")
            .asks()
            .sends_changed(FAKE, &close(FAKE))
            .sends(FAKE)
            .sends(FAKE)
            .done(),
    ]
}

/// Heads that are not plain enough.
fn odd_heads() -> Vec<Scene> {
    let close = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
    let both = "HTTP/1.1 200 OK\r\nConnection: keep-alive, Upgrade\r\nUpgrade: h2c\r\n\r\n";
    let twice = "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nConnection: Upgrade\r\n\r\n";
    let bare = "HTTP/1.1 200 OK\nConnection: keep-alive\n\n";
    let (first, second) = KEEP.split_at(20);
    vec![
        scene("closing-already").asks().sends(close).done(),
        scene("keep-alive-and-upgrade").asks().sends(both).done(),
        scene("two-headers").asks().sends(twice).done(),
        scene("line-feeds").asks().sends(bare).done(),
        scene("too-long")
            .asks()
            .sends(&long(9000, "keep-alive"))
            .done(),
        scene("in-two-pieces")
            .asks()
            .sends(first)
            .sends(second)
            .done(),
        scene("cut-before-the-end")
            .asks()
            .sends(FAKE.trim_end())
            .sends("\r\n\r\nbody")
            .done(),
        scene("interim-and-final")
            .asks()
            .sends(&format!("HTTP/1.1 100 Continue\r\n\r\n{KEEP}"))
            .done(),
    ]
}

/// What is not HTTP/1.1, or no longer.
fn other_protocols() -> Vec<Scene> {
    let old = "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok";
    let switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                     Upgrade: websocket\r\n\r\n";
    let keeping = "HTTP/1.1 101 Switching Protocols\r\nConnection: keep-alive\r\n\r\n";
    let frame = format!("\u{1}\u{2b}{FAKE}");
    let said = b"\x81\x94 twenty bytes of it\r\n\r\n";
    let tls = format!("\u{17}\u{3}\u{3}\u{0}\u{2d}{FAKE}");
    vec![
        scene("http-1-0")
            .asks()
            .sends(old)
            .asks()
            .reads()
            .sends(old)
            .done(),
        scene("websocket-before")
            .asks_before()
            .sends(switching)
            .sends(&frame)
            .says(said)
            .reads()
            .sends(&frame)
            .says(said)
            .reads()
            .sends(&frame)
            .sends(FAKE)
            .done(),
        scene("websocket-during")
            .asks()
            .sends(switching)
            .sends(FAKE)
            .says(said)
            .reads()
            .sends(FAKE)
            .done(),
        scene("upgrade-that-keeps-alive")
            .asks()
            .sends(keeping)
            .says(said)
            .reads()
            .sends(FAKE)
            .done(),
        scene("tls")
            .asks_before()
            .sends(&tls)
            .says(said)
            .reads()
            .sends(&tls)
            .says(said)
            .reads()
            .sends(FAKE)
            .done(),
    ]
}

/// More than one request at a time.
fn pipelines() -> Vec<Scene> {
    let two = format!("{KEEP}{KEEP}");
    vec![
        scene("two-responses-in-one-write")
            .asks()
            .asks()
            .reads()
            .sends(&two)
            .done(),
        // The server has not read the second request when it answers the first.
        scene("unread-request")
            .asks_before()
            .asks()
            .waits()
            .sends(KEEP)
            .reads()
            .sends(KEEP)
            .done(),
    ]
}
