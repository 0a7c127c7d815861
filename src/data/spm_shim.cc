/*
 * The only C++ of the project: SentencePiece has no C interface. Everything thrown ends here as a message.
 */
#include "spm_shim.h"

#include <sentencepiece_processor.h>

#include <cstdio>
#include <exception>
#include <string>
#include <vector>

struct pac_spm {
    sentencepiece::SentencePieceProcessor processor;
};

namespace
{

int failed(const char *message, char *why, size_t why_bytes)
{
    std::snprintf(why, why_bytes, "%s", message);
    return PAC_SPM_FAILED;
}

/* Run `body`, which returns a status or the value of `take`, and turn whatever it throws into a message. */
template <class Body> int guarded(char *why, size_t why_bytes, Body body)
{
    try {
        return body();
    } catch (const std::exception &e) {
        return failed(e.what(), why, why_bytes);
    } catch (...) {
        return failed("unknown exception", why, why_bytes);
    }
}

} // namespace

int pac_spm_open(const void *model, size_t bytes, pac_spm **out, char *why, size_t why_bytes)
{
    pac_spm *p = nullptr;
    int rc = guarded(why, why_bytes, [&]() -> int {
        p = new pac_spm();
        auto status = p->processor.LoadFromSerializedProto(std::string_view(static_cast<const char *>(model), bytes));
        return status.ok() ? PAC_SPM_OK : failed(status.error_message(), why, why_bytes);
    });
    if (rc == PAC_SPM_OK)
        *out = p;
    else
        delete p;
    return rc;
}

void pac_spm_close(pac_spm *p)
{
    delete p;
}

int pac_spm_encode(const pac_spm *p, const char *text, size_t bytes, pac_spm_take take, void *user, char *why, size_t why_bytes)
{
    return guarded(why, why_bytes, [&]() -> int {
        std::vector<int> ids;
        auto status = p->processor.Encode(std::string_view(text, bytes), &ids);
        return status.ok() ? take(user, ids.data(), ids.size()) : failed(status.error_message(), why, why_bytes);
    });
}

int pac_spm_decode(const pac_spm *p, const int32_t *ids, size_t n, pac_spm_take take, void *user, char *why, size_t why_bytes)
{
    return guarded(why, why_bytes, [&]() -> int {
        const auto &processor = p->processor;
        std::vector<int> kept;
        for (size_t i = 0; i < n; i++) {
            int id = ids[i];
            if (id >= 0 && id < processor.GetPieceSize() && !processor.IsControl(id) && !processor.IsUnknown(id))
                kept.push_back(id);
        }
        std::string text;
        auto status = processor.Decode(kept, &text);
        return status.ok() ? take(user, text.data(), text.size()) : failed(status.error_message(), why, why_bytes);
    });
}

int64_t pac_spm_size(const pac_spm *p)
{
    return p->processor.GetPieceSize();
}
