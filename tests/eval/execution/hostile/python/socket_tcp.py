# Asks for a TCP socket.
# verdict: forbidden
# says: Operation not permitted
import socket

socket.create_connection(("127.0.0.1", int("@PORT@")))
