"""What people agree to, each with a key of their own: approvals, exemptions, changes of gates."""
