"""Ports that nobody listens on."""

from __future__ import annotations

import socket

from local.ports import GRPC_OFFSET, free_ports, is_free, preferred


def test_a_port_that_is_taken_is_not_preferred() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        assert preferred(taken) != taken
    assert preferred(taken) == taken


def test_free_ports_differ_and_leave_room_for_grpc() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    assert all(is_free(port) and is_free(port + GRPC_OFFSET) for port in ports)
