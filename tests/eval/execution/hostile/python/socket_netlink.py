# Asks for a door to the kernel's network settings.
# verdict: forbidden
# says: Operation not permitted
import socket

socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)
