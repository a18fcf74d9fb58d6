"""Streams of Lab Streaming Layer."""
