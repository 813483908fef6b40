//! HTTP/1.1 messages: as much of it as a counting client and a test server need. Parsing is httparse's.

use std::{
    io::Read as _,
    net::{SocketAddr, TcpStream},
};

use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::failure::Failure;

/// Most headers a message of the tests may have.
const MAX_HEADERS: usize = 32;

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Who answered: the `X-Generation` header, else the first line of the body.
    pub generation: String,
    /// The body.
    pub body: String,
    /// The server said that it closes the connection now.
    pub closes: bool,
}

/// The head of a request without a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The path asked for.
    pub path: String,
    /// The client wants the connection closed after the answer.
    pub closes: bool,
}

/// The bytes of a GET request.
pub fn request(target: SocketAddr, path: &str, keep_alive: bool) -> Vec<u8> {
    let connection = if keep_alive { "keep-alive" } else { "close" };
    format!("GET {path} HTTP/1.1\r\nHost: {target}\r\nConnection: {connection}\r\n\r\n")
        .into_bytes()
}

/// Reads until `buffer` holds a whole answer, takes it out, and leaves what follows.
pub async fn read_response<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut Vec<u8>,
) -> Result<Response, Failure> {
    loop {
        if let Some(response) = take_response(buffer)? {
            return Ok(response);
        }
        let received = buffer.len();
        match stream.read_buf(buffer).await {
            Ok(0) => return Err(Failure::Closed { received }),
            Ok(_) => {}
            Err(error) => return Err(Failure::from_io(error, received)),
        }
    }
}

/// The answer that is all there was to read on a connection.
pub fn whole_response(mut bytes: Vec<u8>) -> Result<Response, Failure> {
    let received = bytes.len();
    take_response(&mut bytes)?.ok_or(Failure::Closed { received })
}

/// [`read_response`] on a blocking stream, whose read timeout is the deadline.
pub fn read_response_blocking(stream: &mut TcpStream) -> Result<Response, Failure> {
    let mut buffer = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        if let Some(response) = take_response(&mut buffer)? {
            return Ok(response);
        }
        match stream.read(&mut chunk) {
            Ok(0) => {
                return Err(Failure::Closed {
                    received: buffer.len(),
                });
            }
            Ok(count) => buffer.extend(chunk.iter().take(count)),
            Err(error) => return Err(Failure::from_io(error, buffer.len())),
        }
    }
}

/// Takes a whole request out of the front of `buffer`, if there is one.
pub fn take_request(buffer: &mut Vec<u8>) -> Result<Option<Request>, Failure> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(head) = parsed.parse(buffer).map_err(malformed)? else {
        return Ok(None);
    };
    let closes = says_close(parsed.headers) || parsed.version == Some(0);
    let request = Request {
        path: parsed.path.unwrap_or_default().to_owned(),
        closes,
    };
    buffer.drain(..head);
    Ok(Some(request))
}

fn take_response(buffer: &mut Vec<u8>) -> Result<Option<Response>, Failure> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = parsed.parse(buffer).map_err(malformed)? else {
        return Ok(None);
    };
    let length = content_length(parsed.headers)?;
    let end = head.saturating_add(length);
    let Some(body) = buffer.get(head..end) else {
        return Ok(None);
    };
    let body = String::from_utf8_lossy(body).into_owned();
    let named = header(parsed.headers, "x-generation");
    let response = Response {
        status: parsed.code.unwrap_or_default(),
        generation: named.unwrap_or_else(|| body.lines().next().unwrap_or_default().to_owned()),
        closes: says_close(parsed.headers) || parsed.version == Some(0),
        body,
    };
    buffer.drain(..end);
    Ok(Some(response))
}

fn content_length(headers: &[httparse::Header<'_>]) -> Result<usize, Failure> {
    let text = header(headers, "content-length")
        .ok_or_else(|| Failure::Malformed("no Content-Length".to_owned()))?;
    text.parse()
        .map_err(|error| Failure::Malformed(format!("Content-Length {text}: {error}")))
}

fn says_close(headers: &[httparse::Header<'_>]) -> bool {
    header(headers, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
}

fn header(headers: &[httparse::Header<'_>], name: &str) -> Option<String> {
    let found = headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case(name))?;
    Some(String::from_utf8_lossy(found.value).trim().to_owned())
}

fn malformed(error: httparse::Error) -> Failure {
    Failure::Malformed(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Option<Response>, Failure> {
        take_response(&mut bytes.to_vec())
    }

    #[test]
    fn a_whole_answer_is_read() {
        let response =
            read(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\ngen1\n")
                .unwrap()
                .unwrap();
        assert_eq!(
            response,
            Response {
                status: 200,
                generation: "gen1".to_owned(),
                closes: true,
                body: "gen1\n".to_owned(),
            }
        );
    }

    #[test]
    fn the_header_names_the_generation_before_the_body() {
        let response =
            read(b"HTTP/1.1 200 OK\r\nx-generation: gen2\r\nContent-Length: 2\r\n\r\nhi")
                .unwrap()
                .unwrap();
        assert_eq!(response.generation, "gen2");
        assert!(!response.closes);
    }

    #[test]
    fn half_a_body_is_no_answer() {
        assert_eq!(
            read(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\ngen").unwrap(),
            None
        );
    }

    #[test]
    fn an_answer_without_a_length_is_refused() {
        assert!(matches!(
            read(b"HTTP/1.1 200 OK\r\n\r\n"),
            Err(Failure::Malformed(_))
        ));
    }

    #[test]
    fn what_follows_an_answer_stays() {
        let mut buffer = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP".to_vec();
        take_response(&mut buffer).unwrap().unwrap();
        assert_eq!(buffer, b"HTTP");
    }

    #[test]
    fn a_request_is_read() {
        let mut bytes = request("127.0.0.1:80".parse().unwrap(), "/x", true);
        let request = take_request(&mut bytes).unwrap().unwrap();
        assert_eq!(
            request,
            Request {
                path: "/x".to_owned(),
                closes: false
            }
        );
        assert!(bytes.is_empty());
    }
}
