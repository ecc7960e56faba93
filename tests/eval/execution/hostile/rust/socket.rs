// Connects to a server of the host.
// verdict: forbidden
// says: Operation not permitted
fn answer() -> i32 {
    std::net::TcpStream::connect("127.0.0.1:@PORT@").unwrap();
    42
}
