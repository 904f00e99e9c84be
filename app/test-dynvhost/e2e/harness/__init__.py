# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""What the end-to-end tests and the demo share: real programs, started, talked to and ended."""
