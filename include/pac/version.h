/* The version of the program; the git revision is added by the build (src/cli). */
#ifndef PAC_VERSION_H
#define PAC_VERSION_H

#define PAC_VERSION "0.1.0"

#endif
