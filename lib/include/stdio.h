/* SPDX-License-Identifier: BSD-2-Clause */
/* Empty: lwIP includes it for a checking mode that is off. Printing is ksnprintf (lib/lib.h). */
#pragma once
