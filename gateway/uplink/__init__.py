"""The session with the broker: window and resend (sans-IO), and the MQTT shell."""
