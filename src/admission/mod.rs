//! Decodes AdmissionReviews, finds their images, answers.
